"""The house rules that a reader of the source relies on, kept by reading the source."""

import ast
import pathlib
import re

import pytest

from support import ROOT

PACKAGE = ROOT / "byol_keras"

# Module -> modules of ours that it may import, besides those of its own folder under
# benchmarks/. A new module gets a row; a name that ends in "*" stands for all that
# begin like that.
MAY_IMPORT = {
    "__init__": {"*"},
    "assets.make_fashion_mnist_small": {"data"},
    "argument_checks": set(),
    "array_files": {"bad_images", "decoding", "image_files", "sources"},
    "augmentations": {"kernels"},
    "augmented_view": {"augmentations", "crops", "resizing", "sources"},
    "backbones": set(),
    "bad_images": {"image_bytes"},
    "benchmarks.__init__": {"benchmarks.*"},
    "benchmarks.__main__": {"*"},
    "benchmarks.accuracy": set(),
    "benchmarks.average_precision": set(),
    "benchmarks.baselines": {"benchmarks.*", "data", "export"},
    "benchmarks.detection.__init__": {"benchmarks.*"},
    "benchmarks.detection.annotated": {"sources"},
    "benchmarks.detection.batches": {"augmented_view", "benchmarks.*", "sources"},
    "benchmarks.detection.benchmark": {"benchmarks.*"},
    "benchmarks.detection.coco_metrics": {"benchmarks.*"},
    "benchmarks.detection.dataset": {
        "benchmarks.*",
        "labelled_lists",
        "published_folder",
    },
    "benchmarks.detection.drawing": {"benchmarks.*"},
    "benchmarks.detection.faster_rcnn_c4": {"benchmarks.*"},
    "benchmarks.detection.mask_rcnn_fpn": {"benchmarks.*"},
    "benchmarks.detection.masks": set(),
    "benchmarks.detection.region_ops": {"benchmarks.*"},
    "benchmarks.detection.sampling": set(),
    "benchmarks.detection.schedule": set(),
    "benchmarks.detection.training": {"benchmarks.*", "optimizers"},
    "benchmarks.detection.two_stage": {"benchmarks.*"},
    "benchmarks.detection.voc_metrics": {"benchmarks.*"},
    "benchmarks.dilation": {"benchmarks.*"},
    "benchmarks.fcn": {"benchmarks.*"},
    "benchmarks.feature_cache": set(),
    "benchmarks.features": {"benchmarks.*"},
    "benchmarks.finetune": {"benchmarks.*", "export", "schedules"},
    "benchmarks.heads": {"benchmarks.*", "schedules", "sources"},
    "benchmarks.knn": {"benchmarks.*"},
    "benchmarks.learning_rates": {"schedules"},
    "benchmarks.linear": {"benchmarks.*", "schedules"},
    "benchmarks.linear_svms": {"benchmarks.*"},
    "benchmarks.logistic": {"benchmarks.*"},
    "benchmarks.low_shot_svm": {"benchmarks.*"},
    "benchmarks.pooling": set(),
    "benchmarks.precision": set(),
    "benchmarks.published": set(),
    "benchmarks.replicas": set(),
    "benchmarks.results": {"benchmarks.*", "provenance", "whole_files"},
    "benchmarks.segmentation": {"benchmarks.*"},
    "benchmarks.segmentation_augmentation": {"augmented_view", "benchmarks.*"},
    "benchmarks.segmentation_data": {
        "benchmarks.*",
        "labelled_lists",
        "published_folder",
    },
    "benchmarks.segmentation_files": {"sources"},
    "benchmarks.segmentation_inference": {"benchmarks.*"},
    "benchmarks.segmentation_metrics": set(),
    "benchmarks.segmentation_recipe": {"benchmarks.*"},
    "benchmarks.splits": {"subsets"},
    "benchmarks.svm": {"benchmarks.*"},
    "benchmarks.table": {"benchmarks.*"},
    "benchmarks.training_state": {"benchmarks.*", "checkpoint_folder", "checkpoints"},
    "benchmarks.transforms": set(),
    "blurs": {"augmentations", "kernels"},
    "byol": {"argument_checks", "backbones", "losses"},
    "callbacks": {"argument_checks", "byol"},
    "checkpoint_folder": {"argument_checks"},
    "checkpoints": {
        "argument_checks",
        "callbacks",
        "checkpoint_folder",
        "interruption",
        "workers",
    },
    "colors": {"augmentations", "kernels"},
    "contact_sheet": {"op_effects"},
    "crops": {"augmentations", "resizing"},
    "data": {
        "array_files",
        "bad_images",
        "image_data",
        "image_files",
        "sources",
        "tfds_records",
    },
    "data_check": {"*"},
    "decoding": set(),
    "doctor": {"argument_checks", "monitors", "whole_files", "workers"},
    "draws": {"augmentations", "blurs", "colors", "crops"},
    "embed": {"*"},
    "embedding": {
        "benchmarks.features",
        "benchmarks.results",
        "embedding_file",
        "whole_files",
    },
    "embedding_file": {"whole_files"},
    "environment": set(),
    "evaluation_callbacks": {"argument_checks"},
    "export.__init__": {"whole_files"},
    "export.__main__": {"*"},
    "export.formats": {"export", "whole_files"},
    "export.model_card": {"whole_files"},
    "export.networks": {"byol", "checkpoint_folder", "export"},
    "externals": set(),
    "fingerprint": set(),
    "foreign_files": {"pickled_arrays", "torch_files"},
    "foreign_weights": {"backbones", "foreign_files", "weight_names"},
    "gin_bindings": {"mistakes", "value_types"},
    "gin_names": {"*"},
    "gin_syntax": {"value_types"},
    "gin_trial": {"gin_bindings", "mistakes", "value_types"},
    "guards": {"argument_checks", "checkpoint_folder", "checkpoints", "workers"},
    "image_bytes": {"decoding", "image_headers"},
    "image_data": {"decoding", "sources"},
    "image_files": {
        "bad_images",
        "decoding",
        "image_bytes",
        "image_headers",
        "sources",
    },
    "image_headers": set(),
    "interop": {"*"},
    "interruption": set(),
    "kernels": set(),
    "labelled_lists": {"image_data", "image_files", "published_folder"},
    "launch": {"gin_bindings", "gin_syntax", "mistakes", "whole_files"},
    "losses": set(),
    "meter": set(),
    "mistakes": set(),
    "monitors": set(),
    "nearest": {"contact_sheet", "embedding_file"},
    "op_effects": {"augmentations", "augmented_view", "crops", "draws"},
    "optimizers": set(),
    "pickled_arrays": set(),
    "plan": {"augmented_view", "checkpoints", "launch"},
    "preview": {"*"},
    "published_folder": {"image_data", "image_files"},
    "provenance": {"__init__", "whole_files"},
    "replay": {"sources"},
    "report.__init__": {"report.*"},
    "report.__main__": {"launch", "report.*"},
    "report.callback": {"report.*"},
    "report.curves": {"report.*"},
    "report.page": {"benchmarks.table", "meter", "report.*", "whole_files"},
    "report.pictures": {"monitors", "report.*"},
    "report.representation": {"benchmarks.transforms"},
    "report.run_folder": {"benchmarks.results", "provenance", "whole_files"},
    "resizing": {"kernels"},
    "run": {
        "bad_images",
        "callbacks",
        "checkpoints",
        "export",
        "export.model_card",
        "fingerprint",
        "interruption",
        "launch",
        "meter",
        "provenance",
        "replay",
        "report",
        "run_lock",
        "run_log",
        "schedules",
        "views",
        "workers",
    },
    "run_lock": set(),
    "run_log": {"whole_files"},
    "schedules": set(),
    "sources": set(),
    "subsets": {"image_data"},
    "tfds_records": {"decoding", "image_data", "sources"},
    "torch_files": {"pickled_arrays"},
    "torchvision_weights": {"foreign_weights", "weight_names"},
    "train": {"*"},
    "validation": {
        "augmentations",
        "blurs",
        "byol",
        "colors",
        "crops",
        "gin_bindings",
        "gin_trial",
        "image_data",
        "launch",
        "mistakes",
        "schedules",
    },
    "value_types": set(),
    "views": {"augmentations", "augmented_view", "sources"},
    "watchers": {"replay"},
    "weight_names": set(),
    "whole_files": set(),
    "workers": set(),
}
# Run with `python -m`; nothing imports them.
COMMAND_LINES = (
    "assets.make_fashion_mnist_small",
    "benchmarks.__main__",
    "data_check",
    "embed",
    "export.__main__",
    "interop",
    "preview",
    "report.__main__",
    "train",
)
# Read what gin has parsed, for `launch` and the command lines.
READ_GIN = ("gin_bindings", "gin_syntax", "gin_trial")
# Evaluation must work for any backbone, whatever made it.
HIDDEN_FROM_BENCHMARKS = {"byol", "callbacks", "run", "train", "views"}
GIN_ANYWHERE = {
    "REQUIRED",
    "configurable",
    "constant",
    "external_configurable",
    "register",
}
# A folder that exists only on the machine of whoever wrote the line.
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|tmp|root|home|Users)/")
TEXT_SUFFIXES = ("", ".cfg", ".gin", ".json", ".md", ".py", ".toml", ".yml")


def modules():
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found[".".join(path.relative_to(PACKAGE).with_suffix("").parts)] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_text()) for name, path in MODULES.items()}


def imported(tree):
    """Dotted names that a module imports; `from a import b` is `a.b`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            prefix = "." * node.level + (node.module or "")
            names |= {f"{prefix}.{alias.name}" for alias in node.names}
    return names


def imported_modules(tree):
    """Modules of ours that a module imports; "__init__" for a public name."""
    found = set()
    for name in imported(tree):
        package, _, rest = name.partition(".")
        if package != "byol_keras":
            continue
        owner = rest.rpartition(".")[0]
        candidates = (rest, f"{rest}.__init__", owner, f"{owner}.__init__")
        known = [candidate for candidate in candidates if candidate in MODULES]
        found.add(known[0].removesuffix(".__init__") if known else "__init__")
    return found


def may_import(name, other):
    return any(
        other.startswith(allowed[:-1]) if allowed.endswith("*") else other == allowed
        for allowed in MAY_IMPORT[name]
    )


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


def test_every_module_has_its_row_in_the_table():
    missing = set(MODULES) - set(MAY_IMPORT)
    assert not missing, (
        f"say in MAY_IMPORT of {pathlib.Path(__file__).name} what these new modules "
        f"may import: {sorted(missing)}"
    )


def test_the_table_has_no_row_for_a_module_that_is_gone():
    assert set(MAY_IMPORT) <= set(MODULES)


@pytest.mark.parametrize("name", sorted(set(MODULES) & set(MAY_IMPORT)))
def test_module_imports_only_what_the_table_allows(name):
    others = imported_modules(TREES[name])
    wrong = sorted(other for other in others if not may_import(name, other))
    assert not wrong, f"{name} imports {wrong}; see MAY_IMPORT"


def test_reading_of_imports_finds_every_form():
    source = """
import byol_keras.losses
from byol_keras import byol, resnet18
from byol_keras.benchmarks import knn as nearest
from byol_keras.views import TwoViews
from byol_keras.benchmarks.knn import class_votes
import keras
def late():
    from byol_keras.train import train
"""
    assert imported_modules(ast.parse(source)) == {
        "losses",
        "byol",
        "__init__",  # resnet18
        "benchmarks.knn",
        "views",
        "train",
    }


@pytest.mark.parametrize("name", [n for n in MODULES if n.startswith("benchmarks.")])
def test_benchmarks_see_a_backbone_and_data_only(name):
    assert not imported_modules(TREES[name]) & HIDDEN_FROM_BENCHMARKS


@pytest.mark.parametrize("name", MODULES)
def test_nobody_imports_a_command_line(name):
    assert not imported_modules(TREES[name]) & set(COMMAND_LINES)


@pytest.mark.parametrize("name", MODULES)
def test_imports_are_absolute(name):
    assert not [other for other in imported(TREES[name]) if other.startswith(".")]


@pytest.mark.parametrize("name", MODULES)
def test_only_command_lines_run_as_a_program(name):
    assert ("__main__" in constants(TREES[name])) == (name in COMMAND_LINES)


def constants(tree):
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}


@pytest.mark.parametrize("name", sorted({*MODULES} - {"launch", *COMMAND_LINES}))
def test_flags_and_gin_calls_live_in_launch_and_the_command_lines(name):
    assert not imported(TREES[name]) & {"absl.flags", "absl.app"}
    used = {
        node.attr
        for node in ast.walk(TREES[name])
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "gin"
    }
    # The Model Garden registers names with gin when it is imported, which is late.
    late = {"unlock_config"} if name == "benchmarks.detection.region_ops" else set()
    assert used <= GIN_ANYWHERE | late or name in READ_GIN


@pytest.mark.parametrize("name", MODULES)
def test_everything_public_has_a_docstring(name):
    tree = TREES[name]
    kinds = (ast.FunctionDef, ast.ClassDef)
    public = [
        node
        for node in tree.body
        if isinstance(node, kinds) and not re.match("_|main$", node.name)
    ]
    silent = [node.name for node in public if not ast.get_docstring(node)]
    assert ast.get_docstring(tree)
    assert not silent


def test_gin_holds_nothing_but_gin_files():
    files = [path for path in (ROOT / "gin").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} == {".gin"}


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "misc", "common"])
def test_no_module_has_a_name_that_says_nothing(name):
    found = [*PACKAGE.rglob(f"{name}.py"), *(ROOT / "tests").rglob(f"{name}.py")]
    assert not found


@pytest.mark.parametrize("path", text_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_no_file_names_a_path_of_one_machine(path):
    assert not MACHINE_PATH.search(path.read_text(errors="replace"))


def test_machine_paths_are_told_from_other_paths():
    slash = "/"
    assert MACHINE_PATH.search(f'"{slash}home{slash}me/images"')
    assert not MACHINE_PATH.search("runs/home/x and /usr/share/datasets")
