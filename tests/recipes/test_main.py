"""Recipes of the package are listed, found by name and copied."""

import pytest

from byol_keras.recipes import find, recipes, root

from support import ROOT
from support.processes import command_line


def test_every_recipe_of_the_repository_is_there_with_a_title():
    found = {recipe.name: recipe for recipe in recipes()}
    files = [path for kind in ("pretrain", "benchmarks") for path in files_of(kind)]
    assert set(found) == {f"{path.parent.name}/{path.stem}" for path in files}
    for recipe in found.values():
        source = ROOT / "gin" / f"{recipe.name}.gin"
        assert recipe.path.read_bytes() == source.read_bytes()
        assert 10 < len(recipe.title) < 250
        assert not recipe.title.endswith(".")


def files_of(kind):
    return list((ROOT / "gin" / kind).glob("*.gin"))


def test_root_holds_the_fragments_too():
    assert (root() / "gin/views/natural_32.gin").is_file()


@pytest.mark.parametrize(
    "name",
    [
        "quickstart",
        "quickstart.gin",
        "pretrain/quickstart",
        "gin/pretrain/quickstart.gin",
    ],
)
def test_recipe_is_found_by_its_name_with_and_without_folder_and_ending(name):
    assert find(name).name == "pretrain/quickstart"


@pytest.mark.parametrize("name", ["quick", "", "benchmarks/quickstart"])
def test_unknown_recipe_is_refused(name):
    with pytest.raises(
        ValueError, match=r"copy must name one recipe, as .*\. Received: "
    ):
        find(name)


def test_copy_is_a_recipe_that_trains_from_any_folder(tmp_path):
    done = command_line("recipes", "--copy=quickstart", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    copied = tmp_path / "quickstart.gin"
    assert copied.read_bytes() == find("quickstart").path.read_bytes()
    again = command_line("recipes", "--copy=quickstart", cwd=tmp_path)
    assert again.returncode == 2
    assert again.stderr.splitlines()[-1] == (
        "error: --copy must not replace a file. Received: quickstart.gin, which exists"
    )
    train = command_line(
        "train", "--gin_file=quickstart.gin", "--dry_run", cwd=tmp_path
    )
    assert train.returncode == 0, train.stderr


def test_list_has_one_line_per_recipe():
    done = command_line("recipes")
    lines = done.stdout.splitlines()
    assert len(lines) == len(list(recipes()))
    assert any(line.startswith("gin/pretrain/quickstart.gin ") for line in lines)
