"""The script makes the embedded dataset from the first images of each class."""

import json
import os
import pathlib
import re

import numpy as np
import pytest

from byol_keras import data
from byol_keras.data.assets import make_fashion_mnist_small as maker

from support.datasets import IDX_FOLDER, make_idx_folder, needs_idx


@needs_idx
@pytest.mark.parametrize(("split", "per_class"), [("train", 1000), ("test", 200)])
def test_the_embedded_images_are_the_first_of_each_class(split, per_class):
    images, labels = data.read_fashion_mnist_idx(IDX_FOLDER, split)
    seen, rows = np.zeros(10, int), []
    for row, label in enumerate(labels):
        if seen[label] < per_class:
            seen[label] += 1
            rows.append(row)
    embedded = list(data.fashion_mnist_small(split).ordered().batch(2000))
    np.testing.assert_array_equal(
        np.concatenate([batch["image"] for batch in embedded]), images[rows]
    )
    np.testing.assert_array_equal(
        np.concatenate([batch["label"] for batch in embedded]), labels[rows]
    )


def test_the_metadata_name_licence_and_source_but_no_path():
    folder = pathlib.Path(data.__file__).parent / "assets/fashion_mnist_small/1.0.0"
    info = json.loads((folder / "dataset_info.json").read_text())
    assert "Zalando SE" in info["redistributionInfo"]["license"]
    assert "1708.07747" in info["citation"]
    text = json.dumps(info) + (folder / "features.json").read_text()
    assert re.findall(r"(?<![:/\w])/\w+", text) == []
    assert sum(os.path.getsize(file) for file in folder.iterdir()) < 8e6


def test_the_script_makes_the_same_bytes_twice(tmp_path):
    idx = make_idx_folder(tmp_path / "idx")
    for name in ("one", "two"):
        maker.make(idx, tmp_path / name, train_per_class=3, test_per_class=1)
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert len([file for file in files if "tfrecord" in file]) == 5
    for file in files:
        one, two = (tmp_path / name / file for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()
