"""A folder is embedded in parts, and a killed run resumes at the first missing part."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.embed import embed_folder, files
from byol_keras.embed.embedder import Embedder
from byol_keras.views.transforms import resize_center_crop

from support.datasets import random_image, write

TRANSFORM = functools.partial(resize_center_crop, size=8, resize=8)


class Killed(BaseException):
    """Ends a run like a signal."""


@pytest.fixture
def backbone():
    images = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(4, 3)(images)
    return keras.Model(images, keras.layers.GlobalAveragePooling2D()(x))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """50 images, 5 of them broken, in parts of 8."""
    monkeypatch.setattr(embed_folder, "PART_BATCHES", 2)
    rng = np.random.default_rng(0)
    for number in range(50):
        path = tmp_path / "images" / f"{number:02}.png"
        encoded = tf.io.encode_png(random_image(rng, 9 + number, 20)).numpy()
        write(path, encoded if number % 10 else encoded[:60])
    return tmp_path / "images"


def embed(backbone, folder, out, **about):
    source = data.image_folder(folder, max_bad_share=1.0)
    embedder = Embedder(backbone, TRANSFORM, "avgpool")
    return embed_folder.embed_images(embedder, source, out, about, batch_size=4)


def read(out):
    blocks = [*files.read_blocks(out)]
    names = [name for block in blocks for name in block.paths]
    return names, np.concatenate([block.features for block in blocks])


def test_embeddings_equal_the_features_of_each_readable_image(
    backbone, folder, tmp_path
):
    bad = embed(backbone, folder, tmp_path / "x.npz")
    names, features = read(tmp_path / "x.npz")
    assert names == [f"{n:02}.png" for n in range(50) if n % 10]
    assert [path[-6:] for path in bad] == [f"{n:02}.png" for n in range(0, 50, 10)]
    assert set(bad.values()) == {"PNG that is damaged or cut short"}
    for place, name in enumerate(names):
        image = tf.io.decode_png((folder / name).read_bytes())
        expected = backbone(TRANSFORM(image)[None])
        np.testing.assert_allclose(features[place], expected[0], atol=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "x.npz"]


def test_place_that_cannot_be_written_is_refused_before_an_image_is_embedded(
    backbone, folder, tmp_path, monkeypatch
):
    def refuse(*arguments):
        raise AssertionError("an image was embedded")

    monkeypatch.setattr(Embedder, "__call__", refuse)
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "x.npz"
    with pytest.raises(ValueError) as error:
        embed(backbone, folder, out)
    assert str(error.value) == (
        "out must be a file in a folder that can be written. "
        f"Received: {out} (Not a directory)"
    )


@pytest.mark.parametrize("after", [0, 3, 9, 12])
def test_killed_run_resumes_at_the_first_missing_part(
    after, backbone, folder, tmp_path, monkeypatch
):
    embed(backbone, folder, tmp_path / "whole.npz")
    calls, call = [], Embedder.__call__

    def counted(self, images):
        if len(calls) == after and not resumed:
            raise Killed
        calls.append(len(images))
        return call(self, images)

    resumed = False
    monkeypatch.setattr(Embedder, "__call__", counted)
    with pytest.raises(Killed):
        embed(backbone, folder, tmp_path / "x.npz")
    assert not (tmp_path / "x.npz").exists()
    resumed = True
    calls.clear()
    bad = embed(backbone, folder, tmp_path / "x.npz")
    assert len(calls) == 13 - 2 * (after // 2)
    assert len(bad) == 5
    for got, expected in zip(
        read(tmp_path / "x.npz"), read(tmp_path / "whole.npz"), strict=True
    ):
        np.testing.assert_array_equal(got, expected)


def test_parts_of_another_backbone_are_not_reused(
    backbone, folder, tmp_path, monkeypatch
):
    write_file = files.write

    def killed(*arguments):
        raise Killed

    monkeypatch.setattr(files, "write", killed)
    with pytest.raises(Killed):
        embed(backbone, folder, tmp_path / "x.npz")
    monkeypatch.setattr(files, "write", write_file)
    backbone.set_weights([2 * weight for weight in backbone.get_weights()])
    embed(backbone, folder, tmp_path / "x.npz")
    embed(backbone, folder, tmp_path / "whole.npz")
    np.testing.assert_array_equal(
        read(tmp_path / "x.npz")[1], read(tmp_path / "whole.npz")[1]
    )


def test_complete_file_is_kept_and_other_embeddings_are_not_overwritten(
    backbone, folder, tmp_path, monkeypatch
):
    out = tmp_path / "x.npz"
    embed(backbone, folder, out, size=8)
    before = out.stat().st_mtime_ns
    assert embed(backbone, folder, out, size=8) == {}
    assert out.stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="out must be a new file"):
        embed(backbone, folder, out, size=9)


def test_links_to_nothing_are_left_out_and_listed(backbone, folder, tmp_path):
    (folder / "07.png").unlink()
    (folder / "07.png").symlink_to(tmp_path / "nothing")
    bad = embed(backbone, folder, tmp_path / "x.npz")
    names, features = read(tmp_path / "x.npz")
    assert "07.png" not in names
    assert len(features) == 44
    reason = "cannot be opened: No such file or directory"
    assert bad[str(folder / "07.png")] == reason


def test_file_that_is_deleted_during_the_run_is_left_out(backbone, folder, tmp_path):
    class Deletes(Embedder):
        """Deletes the last image once the first batch is embedded."""

        def __call__(self, images):
            (folder / "49.png").unlink(missing_ok=True)
            return super().__call__(images)

    source = data.image_folder(folder, max_bad_share=1.0)
    embedder = Deletes(backbone, TRANSFORM, "avgpool")
    out = tmp_path / "x.npz"
    bad = embed_folder.embed_images(embedder, source, out, {}, batch_size=4)
    names, _ = read(tmp_path / "x.npz")
    assert names == [f"{n:02}.png" for n in range(49) if n % 10]
    assert str(folder / "49.png") in bad


def test_part_without_a_readable_image_is_empty(backbone, tmp_path, monkeypatch):
    monkeypatch.setattr(embed_folder, "PART_BATCHES", 1)
    rng = np.random.default_rng(0)
    for number in range(12):
        encoded = tf.io.encode_png(random_image(rng, 9, 20)).numpy()
        bad = 4 <= number < 8
        write(tmp_path / "images" / f"{number:02}.png", b"" if bad else encoded)
    bad = embed(backbone, tmp_path / "images", tmp_path / "x.npz")
    assert len(bad) == 4
    assert read(tmp_path / "x.npz")[1].shape == (8, 4)
