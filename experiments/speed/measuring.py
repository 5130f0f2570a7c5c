"""Shared by the speed scripts: alternating measurements, images, result files."""

import json
import pathlib
import resource
import statistics
import sys
import time

import numpy as np

FOLDER = pathlib.Path(__file__).parent
_START = time.perf_counter()


def seconds(function) -> float:
    """Wall-clock time of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def interleaved(functions: dict, repeats: int) -> dict[str, list[float]]:
    """Seconds of every call, with alternating functions after one warm-up call each."""
    for function in functions.values():
        function()
    times = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            times[name].append(seconds(function))
    return times


def seconds_per_batch(dataset, warm_up: int, least: float) -> float:
    """Seconds per batch of a dataset, over at least `least` seconds and four batches.

    The first `warm_up` batches, such as prefetched ones, are not measured.
    """
    batches = iter(dataset)
    for _ in range(warm_up):
        next(batches)
    start, count = time.perf_counter(), 0
    while count < 4 or time.perf_counter() - start < least:
        next(batches)
        count += 1
    return (time.perf_counter() - start) / count


def median_ratio(numerators, denominators) -> float:
    """Median of the ratios of times that were measured in the same repeat."""
    pairs = zip(numerators, denominators, strict=True)
    return statistics.median(a / b for a, b in pairs)


def medians(times: dict[str, list[float]], scale: float = 1.0) -> dict[str, float]:
    """Median of each list, times `scale`."""
    return {k: scale * statistics.median(v) for k, v in times.items()}


def photographs(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 `[count, height, width, 3]`: smooth shapes with weak noise."""
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(count, height, width, 3)).cumsum(1).cumsum(2)
    images -= images.min((1, 2), keepdims=True)
    images /= images.max((1, 2), keepdims=True)
    images += 0.02 * rng.normal(size=images.shape)
    return (255 * np.clip(images, 0, 1)).astype(np.uint8)


def ours(size: int, place: str = "host"):
    """BYOL's `TwoViews`, configured like gin/views/byol_deepmind_224.gin."""
    # Imported here, since it imports TensorFlow, and some scripts set variables before.
    import byol_keras as bk

    def layers(*more):
        jitter = bk.RandomApply(bk.ColorJitter(), 0.8)
        gray = bk.RandomApply(bk.Grayscale(), 0.2)
        flip = bk.RandomHorizontalFlip()
        return [bk.RandomResizedCrop(size), flip, jitter, gray, *more]

    second = [
        bk.RandomApply(bk.GaussianBlur(), 0.1),
        bk.RandomApply(bk.Solarize(), 0.2),
    ]
    return bk.TwoViews(layers(bk.GaussianBlur()), layers(*second), place)


def peak_gigabytes() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def write(results: dict) -> None:
    """Prints the results of a script and writes them to `<script>.json` next to it."""
    from byol_keras.results import provenance

    taken = {"seconds": round(time.perf_counter() - _START, 1)}
    text = json.dumps({**results, **taken, **provenance.made_by()}, indent=1)
    print(text)
    name = pathlib.Path(sys.argv[0]).stem
    (FOLDER / f"{name}.json").write_text(text + "\n")
