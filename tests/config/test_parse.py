"""Files and bindings are one configuration, or one list of mistakes."""

import gin
import pytest

from byol_keras.config import operative
from byol_keras.config.parse import parse_gin
from byol_keras.runtime.errors import Mistakes


@gin.register(module="test_parse")
def model(width=1, name=None):
    return width


def test_later_files_and_bindings_replace_earlier_ones(tmp_path):
    for name, width in (("a", 2), ("b", 3)):
        (tmp_path / f"{name}.gin").write_text(
            f"model.width = {width}\nx/model.width = {width}\n"
        )
    files = [str(tmp_path / "a.gin"), str(tmp_path / "b.gin")]
    parse_gin(files, ["model.width = %WIDTH", "WIDTH = 4"])
    assert gin.get_configurable("model")() == 4
    assert gin.get_configurable("x/model")() == 3


def test_values_of_every_kind_arrive_as_they_are_written(tmp_path):
    values = [-1, 2.5e-7, "it's\n\\", ("a",), [None, True, {"b": (1, [2])}]]
    (tmp_path / "a.gin").write_text("")
    for value in values:
        gin.clear_config()
        parse_gin([str(tmp_path / "a.gin")], [f"model.width = {value!r}"])
        assert gin.query_parameter("model.width") == value


def test_block_binds_each_of_its_lines(tmp_path):
    (tmp_path / "a.gin").write_text("x/model:\n  width = 5\n  name = 'b'\n")
    parse_gin([str(tmp_path / "a.gin")], [])
    assert gin.query_parameter("x/model.width") == 5
    assert gin.query_parameter("x/model.name") == "b"


def test_include_is_found_from_the_folder_above_gin(tmp_path, monkeypatch):
    (tmp_path / "gin/parts").mkdir(parents=True)
    (tmp_path / "gin/parts/wide.gin").write_text("model.width = 9\n")
    (tmp_path / "gin/recipe.gin").write_text("include 'gin/parts/wide.gin'\n")
    monkeypatch.chdir("/")
    parse_gin([str(tmp_path / "gin/recipe.gin")], [])
    assert gin.query_parameter("model.width") == 9
    # Nothing has called the model: only the included file needs no use of it.
    assert operative.unused_bindings() == []


def test_configuration_is_locked_afterwards(tmp_path):
    (tmp_path / "a.gin").write_text("")
    parse_gin([str(tmp_path / "a.gin")], [])
    assert gin.config_is_locked()


def test_import_is_part_of_the_written_configuration(tmp_path, monkeypatch):
    (tmp_path / "gin_parse_module.py").write_text("")
    (tmp_path / "a.gin").write_text("import gin_parse_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    parse_gin([str(tmp_path / "a.gin")], [])
    assert "import gin_parse_module" in gin.config_str()


def test_no_file_is_a_mistake():
    with pytest.raises(ValueError, match=r"gin_files must name at least one gin file"):
        parse_gin([], [])


def test_nothing_is_bound_where_there_is_a_mistake(tmp_path):
    (tmp_path / "a.gin").write_text("model.width = 3\nmodel.wide = 3\n")
    with pytest.raises(Mistakes) as error:
        parse_gin([str(tmp_path / "a.gin")], ["modle.width = 3"])
    assert len(error.value.lines) == 2
    assert gin.config_str().strip() == ""


def test_files_of_a_package_are_found_after_those_of_the_working_directory(
    tmp_path, monkeypatch
):
    here, installed = tmp_path / "here", tmp_path / "installed"
    for folder, width in ((here, 3), (installed, 5)):
        (folder / "gin/part").mkdir(parents=True)
        (folder / "gin/part/a.gin").write_text(f"model.width = {width}\n")
    (installed / "gin/recipe.gin").write_text('include "gin/part/a.gin"\n')
    monkeypatch.chdir(here)
    parse_gin(["gin/recipe.gin"], [], installed=installed)
    assert gin.query_parameter("model.width") == 3
    gin.clear_config()
    (here / "gin/part/a.gin").unlink()
    parse_gin(["gin/recipe.gin"], [], installed=installed)
    assert gin.query_parameter("model.width") == 5
    with pytest.raises(
        Mistakes, match=r"gin_files must exist\. Received: .*absent\.gin"
    ):
        parse_gin(["absent.gin"], [], installed=installed)


def test_include_is_found_in_the_tree_of_the_including_file(tmp_path, monkeypatch):
    other = tmp_path / "other"
    (other / "gin/part").mkdir(parents=True)
    (other / "gin/part/a.gin").write_text("model.width = 7\n")
    (other / "gin/recipe.gin").write_text('include "gin/part/a.gin"\n')
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path / "mine")
    mine = tmp_path / "mine/mine.gin"
    mine.write_text(f'include "{other / "gin/recipe.gin"}"\n')
    parse_gin(["mine.gin"], [])
    assert gin.query_parameter("model.width") == 7
