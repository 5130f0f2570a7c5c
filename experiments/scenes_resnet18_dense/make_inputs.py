"""Writes the inputs of the experiment: scenes in three layouts, and a backbone.

python experiments/scenes_resnet18_dense/make_inputs.py DIR

DIR is then the run folder of the four commands in README.md of this folder.
"""

import pathlib
import sys

import keras

from byol_keras.backbones import resnet18
from byol_keras.export import export_backbone

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from support import scenes  # noqa: E402


def write_scenes(folder: pathlib.Path, train: int = 100, held_out: int = 40) -> None:
    """Writes `VOCdevkit/`, `coco/` and `cityscapes/` with the same scenes.

    Args:
        folder: created if missing.
        train, held_out: int. Numbers of training and test scenes, with different seeds.
    """
    seen, new = scenes.make_scenes(train), scenes.make_scenes(held_out, seed=1)
    detection = {"trainval": seen[1::2]}  # the other half is in the split of 2007
    scenes.write_vocdevkit(
        folder / "VOCdevkit",
        {
            "2007": {"trainval": seen[::2], "test": new},
            "2012": detection | {"train": seen, "val": new},
        },
    )
    scenes.write_coco(folder / "coco", {"train2017": seen, "val2017": new})
    scenes.write_cityscapes(folder / "cityscapes", {"train": seen, "val": new})


def write_backbone(folder: pathlib.Path) -> None:
    """Exports a ResNet-18 of a quarter of the width with random weights."""
    keras.utils.set_random_seed(0)
    export_backbone(resnet18(width=0.25), folder / "export")


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    write_scenes(target)
    write_backbone(target)
    print(f"scenes and a backbone are in {target}")
