"""The reader reports all mistakes, and how a configuration differs from its recipe."""

import gin
import pytest

from byol_keras.config import parse, syntax
from byol_keras.runtime.errors import Mistakes

RECIPE = "gin/pretrain/own_recipe.gin"


@pytest.fixture
def tree(tmp_path):
    """A recipe that includes a fragment, and an experiment that includes the recipe."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    write("gin/optimizer/own_rates.gin", "LARS.momentum = 0.9\nRATE = 1.0\n")
    write(
        RECIPE,
        'include "gin/optimizer/own_rates.gin"\nLARS.learning_rate = %RATE\n'
        "TwoViews.view1 = [@RandomResizedCrop(), @jitter/RandomApply()]\n",
    )
    write("experiments/mine/config.gin", f'include "{RECIPE}"\nLARS.momentum = 0.8\n')
    return tmp_path


@pytest.fixture(autouse=True)
def _registered():
    # Registers names for gin.
    import byol_keras.benchmarks.__main__
    import byol_keras.schedules
    import byol_keras.views  # noqa: F401


def origin(tree, *names, params=()):
    files = [str(tree / name) for name in names]
    return parse.parse_gin(files, list(params), recipes="pretrain")


def test_unchanged_recipe_has_no_differences(tree):
    assert origin(tree, RECIPE) == (RECIPE, {})


def test_bindings_after_the_recipe_are_differences_unless_they_are_equal(tree):
    found = origin(
        tree,
        RECIPE,
        params=[
            "RATE = 0.5",
            "LARS.momentum = 0.9",  # the value of the recipe
            "LARS.weight_decay = 1e-6",
            "TwoViews.view1 = [@blur/RandomApply()]",
            "LARS.learning_rate = @warmup_cosine",
        ],
    )
    assert found.differences == {
        "RATE": ("1.0", "0.5"),
        "LARS.weight_decay": (None, "1e-06"),
        "TwoViews.view1": (
            "[@RandomResizedCrop(), @jitter/RandomApply()]",
            "[@blur/RandomApply()]",
        ),
        "LARS.learning_rate": ("%RATE", "@warmup_cosine"),
    }


def test_experiment_differs_from_the_recipe_that_it_includes(tree):
    found = origin(tree, "experiments/mine/config.gin")
    assert found == (RECIPE, {"LARS.momentum": ("0.9", "0.8")})


def test_second_file_differs_from_the_first(tree):
    (tree / "more.gin").write_text("LARS.momentum = 0.7\n")
    found = origin(tree, RECIPE, "more.gin")
    assert found == (RECIPE, {"LARS.momentum": ("0.9", "0.7")})


def test_file_without_a_folder_gin_above_it_is_a_recipe_with_its_own_name(tmp_path):
    (tmp_path / "own.gin").write_text("LARS.momentum = 0.7\n")
    assert origin(tmp_path, "own.gin") == ("own.gin", {})


def test_imported_module_registers_names_for_the_lines_below(tree, monkeypatch):
    (tree / "own_module.py").write_text(
        "import gin\n@gin.register\ndef own_backbone(channels, width=1):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tree)
    own = tree / "own.gin"
    own.write_text("import own_module\nown_backbone.width = 2\n")
    parse.parse_gin([str(own)], [])
    assert gin.get_bindings("own_backbone") == {"width": 2}


def test_module_that_does_not_load_is_one_line(tree, monkeypatch):
    (tree / "broken_module.py").write_text("raise OSError('no\\ndisk')\n")
    monkeypatch.syspath_prepend(tree)
    own = tree / "own.gin"
    own.write_text("import broken_module\nimport absent_module\n")
    with pytest.raises(Mistakes) as caught:
        parse.parse_gin([str(own)], [])
    broken, absent = caught.value.lines
    assert broken.startswith(
        "import must name a module that loads (OSError: no disk). Received: "
        "'import broken_module' in line 1 of "
    )
    assert "(ModuleNotFoundError: No module named 'absent_module')" in absent


def test_only_bindings_of_included_files_alone_need_no_use(tree):
    (tree / "suite.gin").write_text("JOBS = 2\nsvm.jobs = %JOBS\nknn.k = (3,)\n")
    own = tree / "own.gin"
    own.write_text('include "suite.gin"\nknn.k = (5,)\nlinear.epochs = 3\n')
    reader = syntax.Reader([tree])
    reader.read_file(own)
    assert reader.included == {
        ("JOBS", "gin.macro", "value"),
        ("", "byol_keras.svm", "jobs"),
    }
