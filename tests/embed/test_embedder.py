"""The embedder prepares images as the run and the benchmarks do."""

import keras
import numpy as np
import pytest

from byol_keras.backbones import resnet18
from byol_keras.embed.embedder import (
    Embedder,
    default_resize,
    make_embedder,
    trained_reading,
    trained_size,
)


def write_run(folder, size):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "operative_config.gin").write_text(size)
    return folder


@pytest.mark.parametrize(
    "text",
    [
        "RandomResizedCrop.size = 96\n",
        "view1/RandomResizedCrop.size = 96\nRandomResizedCrop.size = 96\n",
        "SIZE = 96\nRandomResizedCrop.size = %SIZE\n",
    ],
)
def test_default_size_is_that_of_the_views_of_the_run(text, tmp_path):
    assert trained_size(write_run(tmp_path, text)) == 96


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RandomResizedCrop.area = (0.1, 1.0)\n",
        "a/RandomResizedCrop.size = 96\nb/RandomResizedCrop.size = 32\n",
        "RandomResizedCrop.size = (96, 32)\n",
        "RandomResizedCrop.size = %SIZE\n",
    ],
)
def test_size_must_be_given_if_the_run_has_none_or_several(text, tmp_path):
    with pytest.raises(ValueError, match="size must be given unless"):
        trained_size(write_run(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("image_folder.bits = None\nimage_folder.exif_orientation = True\n", {}),
        ("", {}),
        ("a/image_folder.bits = 12\n", {"bits": 12}),
        ("image_folder.exif_orientation = False\n", {"exif_orientation": False}),
        ("a/image_folder.bits = 12\nb/image_folder.bits = 10\n", {}),
    ],
)
def test_images_are_read_as_in_the_run(text, reading, tmp_path):
    assert trained_reading(write_run(tmp_path, text)) == reading
    assert trained_reading(None) == {}


def test_short_side_is_a_seventh_larger_except_for_thumbnails():
    assert [default_resize(n) for n in (28, 32, 96, 224)] == [28, 32, 110, 256]


def test_embedder_accepts_images_of_any_size(tmp_path):
    path = tmp_path / "backbone.keras"
    resnet18(width=0.125).save(path)
    embedder, sizes = make_embedder(None, str(path), size=32, resize=40)
    assert sizes == {"size": 32, "resize": 40}
    pixels = np.zeros((50, 90, 3), np.uint8)
    prepared = embedder.transform(pixels)
    assert prepared.shape == (32, 32, 3)
    assert embedder(prepared[None]).shape == (1, 64)


def test_features_that_are_not_finite_are_refused():
    images = keras.Input((None, None, 3))
    pooled = keras.layers.GlobalAveragePooling2D()(images)
    backbone = keras.Model(images, keras.layers.Rescaling(np.nan)(pooled))
    embedder = Embedder(backbone, None, "avgpool")
    with pytest.raises(ValueError, match="backbone's features must be finite"):
        embedder(np.ones((2, 8, 8, 3), np.float32))


def test_errors_name_arguments():
    for arguments, message in (
        ((None, None), "model_dir or backbone must name a backbone"),
        ((None, "x.keras"), "size must be given for a backbone without model_dir"),
    ):
        with pytest.raises(ValueError, match=message):
            make_embedder(*arguments)
    with pytest.raises(
        ValueError, match="size must be at least 1 and at most resize, 30"
    ):
        make_embedder(None, "x.keras", size=32, resize=30)
