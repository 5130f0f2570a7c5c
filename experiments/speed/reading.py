"""Measures images per second read from files: whole images, and BYOL's two views.

    python experiments/speed/reading.py
    python experiments/speed/reading.py --than=../other_checkout

The second command measures this checkout and another one, for instance of an earlier
commit, in alternating processes. Writes `reading.json` next to this file.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

SECONDS = 2.0  # minimum of one measurement
REPEATS = 5
CHECKOUT = pathlib.Path(__file__).resolve().parents[2]
# Format, size of the images, number of files, size of the views (None: whole images).
CASES = {
    "jpeg_500x375": ("jpeg", (375, 500), 128, None),
    "jpeg_32x32": ("jpeg", (32, 32), 512, None),
    "png_128x96": ("png", (96, 128), 256, None),
    "views_224_of_jpeg_500x375": ("jpeg", (375, 500), 128, 224),
    "views_32_of_jpeg_32x32": ("jpeg", (32, 32), 512, 32),
}


def measure() -> dict[str, float]:
    """Images per second of each case, in this process."""
    import byol_keras  # noqa: F401, sets what TensorFlow reads when imported

    return {name: _rate(*case) for name, case in CASES.items()}


def _rate(kind, size, count, view_size):
    import tensorflow as tf
    from measuring import ours, photographs, seconds_per_batch

    from byol_keras.data import image_folder

    encode = {"jpeg": tf.io.encode_jpeg, "png": tf.io.encode_png}[kind]
    with tempfile.TemporaryDirectory() as folder:
        for number, image in enumerate(photographs(count, *size)):
            file = pathlib.Path(folder, f"{number:04}.{kind}")
            file.write_bytes(encode(image).numpy())
        data = image_folder(folder)
        if view_size:
            batches = ours(view_size).dataset(data, 64, seed=0)
        else:
            batches = data.ordered().repeat().ragged_batch(64).prefetch(2)
        # The first pass examines each file; what is measured is every later one.
        return 64 / seconds_per_batch(batches, 12, SECONDS)


def compare(other: pathlib.Path) -> dict:
    """Rates of this checkout and their ratio to another's, from alternating runs."""
    from measuring import median_ratio, medians

    trees = {"here": CHECKOUT, "other": other}
    rates = {tree: {case: [] for case in CASES} for tree in trees}
    for _ in range(REPEATS):
        for tree, path in trees.items():
            command = [sys.executable, __file__, "--print"]
            environment = {**os.environ, "PYTHONPATH": str(path)}
            output = subprocess.check_output(command, env=environment, text=True)
            for case, rate in json.loads(output.splitlines()[-1]).items():
                rates[tree][case].append(rate)
    ratios = {c: median_ratio(rates["here"][c], rates["other"][c]) for c in CASES}
    return {
        "images_per_second": medians(rates["here"]),
        "ratio_to_the_other_checkout": ratios,
    }


def main():
    """Measures, compares or prints for `compare`."""
    than = [argument for argument in sys.argv[1:] if argument.startswith("--than=")]
    if sys.argv[1:] == ["--print"]:
        print(json.dumps(measure()))
        return
    from measuring import write

    if than:
        write(compare(pathlib.Path(than[0].partition("=")[2]).resolve()))
    else:
        write({"images_per_second": measure()})


if __name__ == "__main__":
    main()
