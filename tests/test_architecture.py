"""The house rules that a reader of the source relies on, kept by reading the source."""

import ast
import pathlib
import re

import pytest

from byol_keras.runtime.run_folder import BenchmarkFolder, ExportFolder, RunFolder

from support import ROOT

PACKAGE = ROOT / "byol_keras"

# A room imports from lower floors and, on its own floor, from rooms to its left.
FLOORS = (
    ("runtime", "data", "losses", "backbones", "optimizers", "schedules", "recipes"),
    (
        "config",
        "views",
        "networks",
        "keras_backbones",
        "keras_workarounds",
        "byol",
        "callbacks",
        "results",
    ),
    ("checkpoints",),
    ("monitoring", "export"),
    ("report", "interop"),
    ("training",),
    ("gin_names",),
    ("benchmarks",),
    ("train", "preview"),
    ("embed",),
)
# The method, flat, read first. It imports nothing else of ours than this and itself.
METHOD = (
    "byol",
    "networks",
    "keras_workarounds",
    "losses",
    "backbones",
    "optimizers",
    "schedules",
)
METHOD_IMPORTS = "runtime.argument_checks"
# They may import anything, and nobody imports them.
COMMAND_LINES = (
    "train",
    "data_check",
    "__main__",
    "*.__main__",
    "data.assets.make_*",
)
# Rooms of benchmarks that do not import each other.
SIBLINGS = ("frozen", "segmentation", "detection")
HIDDEN_FROM_BENCHMARKS = {"byol", "callbacks", "monitoring", "training", "train"}
GIN_DECORATORS = {
    "REQUIRED",
    "configurable",
    "constant",
    "external_configurable",
    "register",
}
# The Model Garden registers names with gin when it is imported, which is late.
LATE_GIN = ("benchmarks.detection.region_ops", "unlock_config")
LONGEST_BODY = {"byol": 45, "train": 45, "training": 45}
# A folder that exists only on the machine of the line's author.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|tmp|root|home|Users)/")
TEXT_SUFFIXES = ("", ".cfg", ".gin", ".json", ".md", ".py", ".toml", ".yml")


def modules():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts)] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def room(name):
    """The first-level room of a module; of a flat module its own name."""
    return name.partition(".")[0]


ROOMS = sorted({room(name) for name in MODULES} - {"__init__", "__main__", "version"})


def modules_of(name):
    return [module for module in MODULES if room(module) == name]


def is_command_line(name):
    return any(pathlib.PurePath(name).match(pattern) for pattern in COMMAND_LINES)


def imported(tree):
    """Pairs of the module and the name that `from module import name` names."""
    pairs = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            pairs |= {(alias.name, None) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            owner = "." * node.level + (node.module or "")
            pairs |= {(owner, alias.name) for alias in node.names}
    return pairs


def imports_of_ours(tree):
    """Pairs of a module of ours and the name taken from it; None for the module."""
    found = set()
    for owner, name in imported(tree):
        package, _, module = owner.partition(".")
        if package != "byol_keras":
            continue
        whole = ".".join(part for part in (module, name) if part)
        if whole in MODULES or f"{whole}.__init__" in MODULES:
            found.add((whole, None))
        else:
            found.add((module or "__init__", name))
    return found


def constants(tree):
    """Strings in the code, but for docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, documented) and ast.get_docstring(node)
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
    ]


def gin_attributes(tree):
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "gin"
    }


def door(package):
    """The names that a package's `__init__` lists in `__all__`."""
    for node in TREES[f"{package}.__init__"].body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def body_length(function):
    """Lines of a function after its arguments and its docstring."""
    has_docstring = ast.get_docstring(function) is not None
    body = function.body[1:] if has_docstring else function.body
    return body[-1].end_lineno - body[0].lineno + 1 if body else 0


def functions(tree):
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return [node for node in ast.walk(tree) if isinstance(node, kinds)]


def text_files():
    folders = ("byol_keras", "docs", "gin", "experiments", "tests", ".ci")
    found = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    found += ROOT.glob("*")
    return [
        path
        for path in found
        if path.is_file()
        and path.suffix in TEXT_SUFFIXES
        and "__pycache__" not in str(path)
    ]


def below(name):
    """Rooms that a room may import."""
    for number, floor in enumerate(FLOORS):
        if name in floor:
            lower = {other for floor in FLOORS[:number] for other in floor}
            return lower | set(floor[: floor.index(name)])
    return None


# --- Floors and doors -----------------------------------------------------------------


def test_every_room_has_a_floor():
    placed = {name for floor in FLOORS for name in floor}
    assert set(ROOMS) - placed - set(METHOD) == {"data_check"}


@pytest.mark.parametrize("name", ROOMS)
def test_room_imports_only_rooms_below_it(name):
    allowed = below(name)
    wrong = {
        (module, other)
        for module in modules_of(name)
        if not is_command_line(module)
        for other, _ in imports_of_ours(TREES[module])
        if room(other) not in {name, "version"} | (allowed or set(METHOD) | {"runtime"})
    }
    assert not wrong


@pytest.mark.parametrize("name", ROOMS)
def test_room_enters_others_by_their_doors(name):
    wrong = set()
    for module in modules_of(name):
        for other, taken in imports_of_ours(TREES[module]):
            package = other.rpartition(".")[0]
            inside = f"{module}.".startswith(f"{package}.")
            if package and not inside and other.rpartition(".")[2] not in door(package):
                wrong.add((module, other))
            if taken and taken.startswith("_") and taken != "__version__":
                wrong.add((module, other, taken))
    assert not wrong


def test_nobody_imports_a_command_line():
    imports = {other for tree in TREES.values() for other, _ in imports_of_ours(tree)}
    assert not [other for other in imports if is_command_line(other)]


def test_door_of_the_ground_floor_imports_nothing():
    assert not imported(TREES["runtime.__init__"])


def test_imports_are_absolute():
    for name, tree in TREES.items():
        assert not [owner for owner, _ in imported(tree) if owner.startswith(".")], name


def test_reading_of_imports_finds_every_form():
    source = """
import byol_keras.losses
from byol_keras import byol, resnet18
from byol_keras.views import TwoViews
from byol_keras.benchmarks.frozen.knn import class_votes
import keras
def late():
    from byol_keras.runtime import errors
"""
    assert imports_of_ours(ast.parse(source)) == {
        ("losses", None),
        ("byol", None),
        ("__init__", "resnet18"),
        ("views", "TwoViews"),
        ("benchmarks.frozen.knn", "class_votes"),
        ("runtime.errors", None),
    }


# --- Rooms ----------------------------------------------------------------------------


def test_config_knows_gin_and_nothing_of_byol():
    words = re.compile("byol(?!_keras)|backbone|\\bviews?\\b|projector", re.IGNORECASE)
    for name in modules_of("config"):
        assert not words.search(MODULES[name].read_text()), name


def test_private_names_of_gin_stand_in_two_files():
    private = [name for name, tree in TREES.items() if "config" in gin_attributes(tree)]
    assert len(private) <= 2
    assert {room(name) for name in private} == {"config"}


@pytest.mark.parametrize("name", ROOMS)
def test_gin_is_called_only_by_config_and_the_command_lines(name):
    for module in modules_of(name):
        if room(module) == "config" or is_command_line(module):
            continue
        late = {LATE_GIN[1]} if module == LATE_GIN[0] else set()
        assert gin_attributes(TREES[module]) <= GIN_DECORATORS | late, module


def test_benchmarks_see_a_backbone_and_data_only():
    for name in modules_of("benchmarks"):
        others = {room(other) for other, _ in imports_of_ours(TREES[name])}
        assert not others & HIDDEN_FROM_BENCHMARKS, name


@pytest.mark.parametrize("name", SIBLINGS)
def test_kinds_of_benchmarks_do_not_import_each_other(name):
    rest = {f"benchmarks.{other}" for other in SIBLINGS if other != name}
    for module in modules_of("benchmarks"):
        if module.startswith(f"benchmarks.{name}."):
            others = {other for other, _ in imports_of_ours(TREES[module])}
            assert not {x for x in others for r in rest if f"{x}.".startswith(f"{r}.")}


def test_fine_tuning_enters_frozen_features_by_one_door():
    others = {other for other, _ in imports_of_ours(TREES["benchmarks.finetune"])}
    found = {other for other in others if other.startswith("benchmarks.frozen")}
    assert found <= {"benchmarks.frozen.features"}


@pytest.mark.parametrize("name", METHOD)
def test_method_imports_itself_and_the_checks_of_arguments(name):
    others = {other for other, _ in imports_of_ours(TREES[name])}
    assert others <= {*METHOD, METHOD_IMPORTS}


def test_byol_is_read_in_one_sitting():
    assert len(MODULES["byol"].read_text().splitlines()) <= 300


@pytest.mark.parametrize("name", [*METHOD, "callbacks", "train", "training"])
def test_no_body_of_the_method_or_of_training_is_long(name):
    for module in modules_of(name):
        for function in functions(TREES[module]):
            assert body_length(function) <= 45, f"{module}.{function.name}"


@pytest.mark.parametrize("name", ROOMS)
def test_flags_stand_only_in_the_command_lines(name):
    for module in modules_of(name):
        if is_command_line(module) or module == "runtime.cli":
            continue
        owners = {owner.partition(".")[0] for owner, _ in imported(TREES[module])}
        assert "absl" not in owners, module
        flags = [x for x in constants(TREES[module]) if re.search(r"(?<!\S)--\w", x)]
        assert not flags, module


@pytest.mark.parametrize("name", ROOMS)
def test_names_of_the_run_folder_are_written_in_one_module(name):
    names = names_of_the_run_folder()
    for module in modules_of(name):
        if module != "runtime.run_folder":
            assert not names & set(constants(TREES[module])), module


def names_of_the_run_folder():
    """File names of a run folder that can be nothing else."""
    paths = {
        path
        for folder in (RunFolder("run"), BenchmarkFolder("run"), ExportFolder("run"))
        for path in vars(folder).values()
    }
    assert len(paths) > 20
    return {path.name for path in paths if path.suffix}


# --- Names, tests and texts -----------------------------------------------------------


def test_registered_names_are_no_addresses():
    for name, tree in TREES.items():
        for function in [*functions(tree), *classes(tree)]:
            for decorator in function.decorator_list:
                text = ast.unparse(decorator)
                if text.startswith(("gin.register", "gin.configurable")):
                    assert "module='byol_keras'" in text, f"{name}.{function.name}"


def classes(tree):
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


@pytest.mark.parametrize("name", ROOMS)
def test_every_module_has_its_test_at_the_mirrored_path(name):
    missing = []
    for module in modules_of(name):
        *folders, last = module.split(".")
        if last != "__init__":
            file = f"test_{last.strip('_')}.py"
            path = ROOT.joinpath("tests", *folders, file)
            missing += [] if path.exists() else [str(path.relative_to(ROOT))]
    assert not missing


@pytest.mark.parametrize("name", ROOMS)
def test_everything_public_has_a_docstring(name):
    for module in modules_of(name):
        tree = TREES[module]
        public = [
            node
            for node in tree.body
            if isinstance(node, ast.FunctionDef | ast.ClassDef)
            and not re.match("_|main$", node.name)
        ]
        silent = [node.name for node in public if not ast.get_docstring(node)]
        assert ast.get_docstring(tree), module
        assert not silent, module


def test_only_command_lines_run_as_a_program():
    programs = {name for name, tree in TREES.items() if "__main__" in constants(tree)}
    assert programs == {name for name in MODULES if is_command_line(name)}


def test_no_test_imports_a_test():
    for path in (ROOT / "tests").rglob("*.py"):
        owners = {owner for owner, _ in imported(ast.parse(path.read_text()))}
        tests = [x for x in owners if x.rpartition(".")[2].startswith("test_")]
        assert not tests, path


def test_gin_holds_nothing_but_gin_files():
    files = [path for path in (ROOT / "gin").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".gin"}


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "misc", "common"])
def test_no_module_has_a_name_that_says_nothing(name):
    found = [*PACKAGE.rglob(f"{name}.py"), *(ROOT / "tests").rglob(f"{name}.py")]
    assert not found


def test_first_level_is_rooms_the_method_and_command_lines():
    entries = {path.stem for path in PACKAGE.iterdir()} - {"__pycache__"}
    placed = {name for floor in FLOORS for name in floor}
    assert entries == placed | {"__init__", "__main__", "data_check", "py", "version"}


def test_no_file_names_a_path_of_one_machine():
    for path in text_files():
        assert not MACHINE_PATH.search(path.read_text(errors="replace")), path


def test_machine_paths_are_recognized():
    slash = "/"
    assert MACHINE_PATH.search(f'"{slash}home{slash}me/images"')
    assert not MACHINE_PATH.search("runs/home/x and /usr/share/datasets")
