"""Makes the photographs of this package: 3,781 of clothes, with a short side of 64.

The source is `clothing-dataset-small` with its folders train, validation and test; any
size of its photographs serves that is not below 64 pixels. README.md in this folder has
origin, licence and selection.

    python -m byol_keras.data.assets.make_clothing_small \
        --images=clothing-dataset-small --out_dir=clothing_small/1.0.0
"""

import argparse
import io
import os
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image, ImageOps

from byol_keras.data.assets.prepared_folder import serialized, write_folder

NAME = "clothing_small"
SHORT_SIDE, QUALITY = 64, 85
DESCRIPTION = (
    "3,781 photographs of single pieces of clothing, taken with phones, in 10 classes "
    "of different sizes, reduced to a short side of 64 pixels: 2,781 for training and "
    "1,000 for the test, which are those that the source keeps for validation and test "
    "and every tenth or eleventh of its training photographs."
)
HOMEPAGE = "https://github.com/alexeygrigorev/clothing-dataset-small"
LICENSE = (
    "CC0 1.0 Universal, public domain dedication: "
    "https://creativecommons.org/publicdomain/zero/1.0/"
)
CITATION = """@misc{grigorev2020clothing,
  author = {Alexey Grigorev},
  title  = {Clothing dataset},
  year   = {2020},
  url    = {https://github.com/alexeygrigorev/clothing-dataset},
}"""


def make(
    images: str | os.PathLike,
    out_dir: str | os.PathLike,
    test_examples: int = 1000,
    train_shards: int = 4,
) -> None:
    """Writes the photographs as a prepared TFDS folder.

    Args:
        images: folder of train/, validation/ and test/, each with one folder per class.
        out_dir: folder to write; created if it does not exist.
        test_examples: int. Size of the test split; more than validation and test hold.
        train_shards: int. Record files of the training split.
    """
    images = pathlib.Path(images)
    names = sorted(folder.name for folder in (images / "train").iterdir())
    train, validation, test = (
        sorted((images / split).glob("*/*"))
        for split in ("train", "validation", "test")
    )
    count = test_examples - len(validation) - len(test)
    moved = {train[place] for place in np.arange(count) * len(train) // count}
    train = [path for path in train if path not in moved]
    test = sorted([*validation, *test, *moved], key=lambda path: path.parts[-2:])

    def records(paths):
        return [serialized(reduced(p), names.index(p.parent.name)) for p in paths]

    write_folder(
        out_dir,
        NAME,
        {"train": (records(train), train_shards), "test": (records(test), 1)},
        tfds.features.Image(
            shape=(None, None, 3), dtype=np.uint8, encoding_format="jpeg"
        ),
        names,
        description=DESCRIPTION,
        homepage=HOMEPAGE,
        citation=CITATION,
        license=LICENSE,
    )


def reduced(path: pathlib.Path) -> bytes:
    """A photograph as JPEG with a short side of 64 pixels, without metadata."""
    with Image.open(path) as stored:
        image = ImageOps.exif_transpose(stored).convert("RGB")
    scale = SHORT_SIDE / min(image.size)
    size = [max(SHORT_SIDE, round(scale * side)) for side in image.size]
    pixels = image.resize(size, Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    pixels.save(encoded, "jpeg", quality=QUALITY, optimize=True)
    return encoded.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--images", required=True, help="folder of the photographs")
    parser.add_argument("--out_dir", required=True, help="folder to write")
    args = parser.parse_args()
    make(args.images, args.out_dir)


if __name__ == "__main__":
    main()
