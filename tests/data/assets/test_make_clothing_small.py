"""The photographs of the package, and the script that makes them."""

import json
import os
import pathlib
import re

import numpy as np
from PIL import Image

from byol_keras import data
from byol_keras.data.assets import make_clothing_small as maker

from support.images import gradient


def test_embedded_photographs_have_the_documented_sizes_and_classes():
    sizes = {}
    for split, count in (("train", 2781), ("test", 1000)):
        source = data.clothing_small(split)
        assert source.num_examples == count
        assert source.channels == 3
        found = list(source.ordered())
        assert {min(one["image"].shape[:2]) for one in found} == {64}
        sizes[split] = np.bincount([one["label"] for one in found])
    total = sizes["train"] + sizes["test"]
    assert (len(total), total.min(), total.max()) == (10, 136, 928)
    shares = sizes["test"] / total
    assert (shares > 0.2).all() and (shares < 0.4).all()


def test_no_photograph_is_in_both_splits():
    seen = [
        {one["image"].numpy().tobytes() for one in data.clothing_small(split).ordered()}
        for split in ("train", "test")
    ]
    assert seen[0].isdisjoint(seen[1])


def test_the_metadata_name_licence_and_source_but_no_path():
    folder = pathlib.Path(data.__file__).parent / "assets/clothing_small/1.0.0"
    info = json.loads((folder / "dataset_info.json").read_text())
    assert info["redistributionInfo"]["license"].startswith("CC0 1.0")
    text = json.dumps(info) + (folder / "features.json").read_text()
    assert re.findall(r"(?<![:/\w])/\w+", text) == []
    assert sum(os.path.getsize(file) for file in folder.iterdir()) < 9e6


def make_source(folder):
    """Two classes of six photographs for training, one for validation and for test."""
    for split, count in (("train", 6), ("validation", 1), ("test", 1)):
        for label in ("hat", "shoes"):
            for number in range(count):
                path = folder / split / label / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(gradient((90, 120))).save(path)


def test_script_makes_the_same_bytes_twice_and_moves_photographs_evenly(tmp_path):
    make_source(tmp_path / "source")
    for name in ("one", "two"):
        maker.make(tmp_path / "source", tmp_path / name, test_examples=8)
    for file in (tmp_path / "one").iterdir():
        assert file.read_bytes() == (tmp_path / "two" / file.name).read_bytes()
    info = json.loads((tmp_path / "one/dataset_info.json").read_text())
    shards = {split["name"]: split["shardLengths"] for split in info["splits"]}
    assert shards == {"train": ["2"] * 4, "test": ["8"]}
    test = data.tfds_folder(os.fspath(tmp_path / "one"), "test")
    assert test.labels().tolist() == [0] * 4 + [1] * 4


def test_photograph_is_upright_with_a_short_side_of_64(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(gradient((80, 160))).save(tmp_path / "1.jpg", exif=exif)
    (tmp_path / "2.jpg").write_bytes(maker.reduced(tmp_path / "1.jpg"))
    with Image.open(tmp_path / "2.jpg") as image:
        assert image.size == (64, 128)
        assert not image.getexif()
