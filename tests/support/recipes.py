"""Recipes without their data: stand-ins of the real size replace missing datasets."""

import gin
import keras
import pytest
from gin import config_parser

from byol_keras.config.parse import parse_gin
from byol_keras.data.image_data import ImageData

from support import ROOT

IMAGENET = 1_281_167
TFDS_ABSENT = ("tfds_dataset.data_dir = 'absent'", "tfds_dataset.download = False")
IDX_ABSENT = ("fashion_mnist_idx.path = 'absent'",)
# Data fragment -> number of images, their size, channels, bindings that hide the data.
STAND_INS = {
    "imagenet2012": (IMAGENET, None, 3, TFDS_ABSENT),
    "cifar10": (50_000, (32, 32), 3, TFDS_ABSENT),
    "fashion_mnist": (60_000, (28, 28), 1, IDX_ABSENT),
    "image_folder": (20_000, None, 3, ("image_folder.path = 'absent'",)),
}
# Backbone -> binding that makes it small, unless it is its width.
SMALL = {"@keras_application": "keras_application.name = 'MobileNetV3Small'"}
ABSENT = "download is False|must be an existing folder|must hold"


def files(*folders):
    found = sorted((ROOT / "gin").rglob("*.gin"))
    found = [path for path in found if not folders or path.parent.name in folders]
    return [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in found]


PRETRAIN = files("pretrain")


class AsText(config_parser.ParserDelegate):
    """Keeps references and macros as text."""

    def configurable_reference(self, scoped_configurable_name, evaluate):
        return f"@{scoped_configurable_name}" + ("()" if evaluate else "")

    def macro(self, macro_name):
        return f"%{macro_name}"


def statements(path):
    """Bindings of one file, `[(name, value)]`, and the files that it includes."""
    bindings, includes = [], []
    for statement in config_parser.ConfigParser(path.read_text(), AsText()):
        if isinstance(statement, config_parser.IncludeStatement):
            includes.append(ROOT / statement.filename)
            continue
        if isinstance(statement, config_parser.ImportStatement):
            continue  # it binds nothing
        scope, selector, parameter, value, _ = statement
        scope = f"{scope}/" if scope else ""
        bindings.append((f"{scope}{selector.split('.')[-1]}.{parameter}", value))
    return bindings, includes


def all_bindings(path):
    """Name -> value for a recipe and its fragments, which the recipe overrides."""
    bindings, includes = statements(path)
    included = [binding for file in includes for binding in statements(file)[0]]
    return dict(included + bindings)


@gin.register(module="tests")
def stand_in_data(dataset_fn, num_examples, image_size, channels):
    """Data of the real size, in place of data that this machine does not have."""
    with pytest.raises(ValueError, match=ABSENT):
        dataset_fn()
    return ImageData("stand-in", num_examples, channels, image_size, None, None)


@gin.register(module="tests")
def stand_in_backbone(backbone_fn, channels):
    """Builds the recipe's backbone, but returns a smaller one for BYOL."""
    backbone_fn(channels=channels)
    return _small(channels)


@gin.register(module="tests")
def stand_in_weights(backbone_fn, channels):
    """Stands for a backbone file that this machine does not have."""
    with pytest.raises(ValueError, match="path must hold a backbone"):
        backbone_fn(channels=channels)
    return _small(channels)


def _small(channels):
    images = keras.Input((None, None, channels))
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(images))


def parse(path, *bindings):
    parse_gin([str(path)], list(bindings))


def stand_in_bindings(path):
    """Overrides that still use every binding of a recipe but build quickly."""
    bindings, (_, includes) = all_bindings(path), statements(path)
    overrides = _backbone_bindings(bindings)
    (fragment,) = [file.stem for file in includes if file.parent.name == "data"]
    if fragment not in STAND_INS:
        return overrides
    num_examples, image_size, channels, absent = STAND_INS[fragment]
    return [
        *overrides,
        *absent,
        "train.dataset_fn = @stand_in_data",
        f"stand_in_data.dataset_fn = {bindings['train.dataset_fn']}",
        f"stand_in_data.num_examples = {num_examples}",
        f"stand_in_data.image_size = {image_size}",
        f"stand_in_data.channels = {channels}",
    ]


def _backbone_bindings(bindings):
    backbone = bindings["train.backbone_fn"]
    if backbone != "@pretrained_backbone":
        return [
            "train.backbone_fn = @stand_in_backbone",
            f"stand_in_backbone.backbone_fn = {backbone}",
            SMALL.get(backbone, f"{backbone[1:]}.width = 0.0625"),
        ]
    file = bindings["pretrained_backbone.file"]
    name = file[1:] if file.startswith("%") else "pretrained_backbone.file"
    return [
        "train.backbone_fn = @stand_in_weights",
        f"stand_in_weights.backbone_fn = {backbone}",
        f"{name} = 'absent'",
        "train.start_from = None",
    ]
