"""Measures views per second: ours against the same views by stock keras-cv layers.

    python experiments/speed/views.py

The inputs are decoded arrays at 32, 96 and 224 pixels, and JPEG files of 500 x 375.
Ours are also measured on the host against the graph of the device. Pipelines are
measured alternately. Writes `views.json` next to this file.
"""

import byol_keras  # noqa: F401, I001, sets what TensorFlow reads when it is imported

import json
import pathlib
import sys
import tempfile

import keras_cv
import numpy as np
import tensorflow as tf
from measuring import (
    FOLDER,
    interleaved,
    median_ratio,
    medians,
    ours,
    photographs,
    seconds_per_batch,
    write,
)

from byol_keras import data
from byol_keras.views import kernels

REPEATS = 5
SECONDS = 2.0  # minimum of one measurement
# Size of the views, size of the decoded images, batch size.
CASES = {"224": (224, 256, 64), "96": (96, 128, 64), "32": (32, 32, 128)}
JPEG_SIZE, JPEGS = (375, 500), 128


def stock(size: int, gated: bool):
    """The same views by stock keras-cv layers, a function of a uint8 batch.

    Its crop has no bicubic interpolation, so it is bilinear, which costs less.

    Args:
        size: int. Size of the views.
        gated: bool. Whether to use `RandomApply`, which processes images one by one.
            Otherwise every layer is applied to every image, in whole batches.
    """
    layers = keras_cv.layers
    taps = 2 * max(size // 20, 1) + 1

    def sometimes(layer, rate):
        return layers.RandomApply(layer, rate=rate) if gated else layer

    def common():
        return [
            layers.RandomCropAndResize(
                (size, size),
                crop_area_factor=(0.08, 1),
                aspect_ratio_factor=(3 / 4, 4 / 3),
            ),
            layers.RandomFlip("horizontal"),
            sometimes(
                layers.RandomColorJitter(
                    value_range=(0, 1),
                    brightness_factor=0.4,
                    contrast_factor=0.4,
                    saturation_factor=(0.4444, 0.5455),
                    hue_factor=0.2,
                ),
                0.8,
            ),
            sometimes(layers.Grayscale(output_channels=3), 0.2),
        ]

    def blur():
        return layers.RandomGaussianBlur(kernel_size=taps, factor=(0.1, 2.0))

    solarize = layers.Solarization(value_range=(0, 1), threshold_factor=(128, 128))
    first = [*common(), blur()]
    second = [*common(), sometimes(blur(), 0.1), sometimes(solarize, 0.2)]

    def views(images):
        pair = []
        for chain in (first, second):
            view = tf.cast(images, tf.float32) / 255.0
            for layer in chain:
                view = layer(view, training=True)
            pair.append(view)
        return tuple(pair)

    return views


def stock_dataset(images, size, batch_size, gated) -> tf.data.Dataset:
    """Infinite dataset of batches of stock views of images in memory."""
    parallel = {"num_parallel_calls": tf.data.AUTOTUNE}
    stream = tf.data.Dataset.from_tensor_slices(images).repeat().batch(batch_size)
    return stream.map(stock(size, gated), **parallel).prefetch(tf.data.AUTOTUNE)


def stock_jpegs(folder, size, batch_size, gated) -> tf.data.Dataset:
    """Infinite dataset of batches of stock views of fully decoded JPEG files."""
    parallel = {"num_parallel_calls": tf.data.AUTOTUNE}
    files = tf.data.Dataset.list_files(f"{folder}/*.jpg", shuffle=False).repeat()

    def decode(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        return tf.ensure_shape(image, [*JPEG_SIZE, 3])

    stream = files.map(decode, **parallel).batch(batch_size)
    return stream.map(stock(size, gated), **parallel).prefetch(tf.data.AUTOTUNE)


def compare(datasets: dict, batch_size: int) -> dict:
    """Pairs of views per second of infinite datasets, and ratios of ours to the others.

    Only one of them is iterated at a time, since others would prefetch meanwhile.
    """
    seconds = {name: [] for name in datasets}
    for _ in range(REPEATS):
        for name, dataset in datasets.items():
            seconds[name].append(seconds_per_batch(dataset, 6, SECONDS))
    rates = {n: batch_size / t for n, t in medians(seconds).items()}
    found = {f"{name}_pairs_per_second": rate for name, rate in rates.items()}
    for other in [name for name in datasets if name != "ours"]:
        found[f"ratio_to_{other}"] = median_ratio(seconds[other], seconds["ours"])
    return found


def from_arrays(size, source, batch_size) -> dict:
    """Compares ours with stock, from decoded images in memory."""
    images = photographs(64, source, source)
    mine = ours(size).dataset(data.arrays(images), batch_size, seed=0)
    kinds = {"stock": True, "stock_without_gates": False}
    others = {
        name: stock_dataset(images, size, batch_size, gated)
        for name, gated in kinds.items()
    }
    return compare({"ours": mine, **others}, batch_size)


def from_jpegs(size=224, batch_size=64) -> dict:
    """Compares ours, which decodes only crops, with stock after full decoding."""
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(photographs(JPEGS, *JPEG_SIZE)):
            encoded = tf.io.encode_jpeg(image, quality=90).numpy()
            pathlib.Path(folder, f"{number:04}.jpg").write_bytes(encoded)
        mine = ours(size).dataset(data.image_folder(folder), batch_size, seed=0)
        return compare(
            {"ours": mine, "stock": stock_jpegs(folder, size, batch_size, gated=True)},
            batch_size,
        )


def on_device(size, source, batch_size) -> dict:
    """Compares views on the host with the same views in the graph of the device."""
    source = data.arrays(photographs(64, source, source))
    host = ours(size).dataset(source, batch_size, seed=0)
    views = ours(size, "device")
    make = tf.function(views.on_device)
    parts = views.dataset(source, batch_size, seed=0)

    return compare({"ours": host, "device": Made(parts, make)}, batch_size)


class Made:
    """A dataset with a function applied to its elements in every iteration."""

    def __init__(self, dataset, make):
        self.dataset, self.make = dataset, make

    def __iter__(self):
        return (self.make(*element) for element in self.dataset)


def bounds(size=224) -> dict:
    """Bounds of this machine with one core: memory copies and multiplications.

    Each operation of a view writes it once; see README.md in this folder.
    """
    view = np.random.default_rng(0).random((1, 3, size, size), np.float32)
    chosen, other = np.ones(1, bool), np.empty_like(view)
    times = interleaved(
        {
            "copy": lambda: [np.copyto(other, view) for _ in range(200)],
            "multiply_and_add": lambda: [
                kernels.shift_channels(view, chosen, np.zeros((1, 3), np.float32))
                for _ in range(200)
            ],
        },
        REPEATS,
    )
    found = medians(times, 1.0 / 200)
    return {
        "copy_gigabytes_per_second": 2 * view.nbytes / found["copy"] / 1e9,
        "pass_over_a_view_milliseconds": 1e3 * found["multiply_and_add"],
    }


def reduced_decoding() -> dict:
    """Milliseconds to decode a JPEG of 12 megapixels at reduced sizes."""
    jpeg = tf.io.encode_jpeg(photographs(1, 3000, 4000)[0], quality=90)

    def at(ratio):
        return lambda: tf.io.decode_jpeg(
            jpeg, 3, ratio=ratio, dct_method="INTEGER_ACCURATE"
        )

    return medians(interleaved({str(n): at(n) for n in (1, 2, 4)}, REPEATS), 1e3)


PARTS = {
    "bounds": bounds,
    **{
        f"arrays_{name}": lambda case=case: from_arrays(*case)
        for name, case in CASES.items()
    },
    "jpeg_224": from_jpegs,
    "jpeg_12_megapixels_milliseconds_at_1_over": reduced_decoding,
    "device_32": lambda: on_device(*CASES["32"]),
}


def main():
    """Measures all parts or the given ones, prints and writes."""
    path = FOLDER / "views.json"
    results = json.loads(path.read_text()) if sys.argv[1:] else {}
    results["repeats"] = REPEATS
    for name in sys.argv[1:] or PARTS:
        results[name] = PARTS[name]()
    write(results)


if __name__ == "__main__":
    main()
