"""Images of 16 bits with values of fewer are reported, and read as an option says."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras.data import image_bytes, image_folder

from support.datasets import write
from support.images import encode


def encoded(values, form, bits=16):
    """Grey images of 16 bits."""
    if form == "png":
        return tf.io.encode_png(values[..., None]).numpy()
    if form == "pgm":
        height, width = values.shape
        header = b"P5 %d %d %d\n" % (width, height, 2**bits - 1)
        return header + values.astype(">u2").tobytes()
    return encode(Image.fromarray(values), form)


@pytest.mark.parametrize("form", ["png", "tiff", "pgm"])
@pytest.mark.parametrize("bits", [8, 10, 12, 16, None])
def test_values_of_fewer_bits_are_spread_over_the_range(tmp_path, bits, form, caplog):
    most = 2 ** (bits or 16)
    values = np.linspace(0, most - 1, 12 * 13).astype(np.uint16).reshape(12, 13)
    write(tmp_path / f"1.{form}", encoded(values, form))
    source = image_folder(tmp_path, bits=bits)
    for _ in range(2):  # the first time, the file is examined
        (example,) = source.ordered()
        expected = values >> ((bits or 16) - 8)
        np.testing.assert_array_equal(example["image"][..., 0], expected)
    assert not [x for x in caplog.records if x.levelname == "WARNING"]


def test_bits_are_refused_for_arrays(tmp_path):
    np.save(tmp_path / "1.npy", np.zeros((4, 5, 6), np.uint8))
    with pytest.raises(ValueError, match=r"bits must be None for arrays. Received: 12"):
        image_folder(tmp_path, bits=12)


def test_larger_values_than_those_of_the_bits_are_clipped(tmp_path):
    write(tmp_path / "1.png", encoded(np.uint16([[0, 4095, 4096, 65535]]), "png"))
    (example,) = image_folder(tmp_path, bits=12).ordered()
    assert example["image"].numpy().ravel().tolist() == [0, 255, 255, 255]


def test_colour_of_16_bits_is_scaled_in_png_and_refused_in_tiff(tmp_path):
    values = np.random.default_rng(0).integers(0, 4096, (5, 6, 3), dtype=np.uint16)
    write(tmp_path / "1.png", tf.io.encode_png(values).numpy())
    (example,) = image_folder(tmp_path, bits=12).ordered()
    np.testing.assert_array_equal(example["image"], values >> 4)
    ppm = b"P6 6 5 65535\n" + values.astype(">u2").tobytes()
    with pytest.raises(ValueError, match=r"colour with 16 bits.*bits needs PNG"):
        image_bytes.readable(ppm, bits=12)


def test_files_that_state_their_range_and_files_of_8_bits_are_not_scaled(tmp_path):
    values = np.arange(12, dtype=np.uint16).reshape(3, 4) * 90
    write(tmp_path / "stated.pgm", encoded(values, "pgm", bits=10))
    write(
        tmp_path / "small.png", encode(Image.fromarray(values.astype(np.uint8)), "png")
    )
    for bits in (None, 12):
        small, stated = image_folder(tmp_path, bits=bits).ordered()
        np.testing.assert_array_equal(small["image"][..., 0], values.astype(np.uint8))
        difference = stated["image"][..., 0] - values / 1023 * 255
        assert np.abs(difference).max() <= 1


@pytest.mark.parametrize("form", ["png", "tiff", "pgm"])
def test_start_warns_of_images_that_use_a_small_part_of_16_bits(tmp_path, form, caplog):
    for number in range(40):
        values = np.full((3, 4), 100 * number, np.uint16)
        write(tmp_path / f"{number:02}.{form}", encoded(values, form))
    image_folder(tmp_path)
    (warning,) = [message for message in caplog.messages if "16 bits" in message]
    assert warning == (
        f"16 of 16 images examined in {tmp_path} have 16 bits, of which the upper 8 "
        "are read, and values up to 4095 of 65535: values of 12 bits need "
        "image_folder.bits = 12"
    )


def test_one_bright_image_shows_that_the_range_is_used(tmp_path, caplog):
    for name, most in (("1", 4000), ("2", 65535)):
        write(tmp_path / f"{name}.png", encoded(np.uint16([[0, most]]), "png"))
    image_folder(tmp_path)
    assert not [x for x in caplog.records if x.levelname == "WARNING"]


@pytest.mark.parametrize("bits", [7, 17, True, "12", 12.0])
def test_bits_are_ints_in_8_to_16(tmp_path, bits):
    write(tmp_path / "1.png", encoded(np.uint16([[0, 1]]), "png"))
    with pytest.raises(ValueError, match=r"bits must be None or an int in 8..16"):
        image_folder(tmp_path, bits=bits)
