"""Images of any number of channels as NumPy files, `.npy`.

TensorFlow's decoders read at most four channels. An array is uint8 `[h, w, C]`, or
`[h, w]` for one channel, as `numpy.save(path, image)` writes it. Scale images of more
than 8 bits to 0..255 first.
"""

import os
from collections.abc import Sequence

import numpy as np

from byol_keras.data.decoding import MAX_PIXELS
from byol_keras.data.image_files import file_rows as rows_of_files
from byol_keras.data.sources import Rows
from byol_keras.data.unreadable import MAX_BAD_SHARE, UNOPENED, check_share
from byol_keras.runtime.regular_files import check_regular

SUFFIXES = (".npy",)


def common_channels(
    paths: Sequence[str],
    folder: str | os.PathLike,
    max_bad_share: float = MAX_BAD_SHARE,
) -> int:
    """Channels of the first readable array; the others must have the same number.

    Raises:
        ValueError: if the unreadable arrays before it exceed a share `max_bad_share` of
            all arrays, or are all arrays.
    """
    check_share(max_bad_share)
    most = min(len(paths), int(max_bad_share * len(paths)) + 1)
    flaws = []
    for path in paths[:most]:
        flaws.append(flaw_of_array(path))
        if flaws[-1] is None:
            return _channels(np.load(path, mmap_mode="r"))
    raise ValueError(
        f"path must hold readable arrays, all but a share of {max_bad_share:g} "
        f"(max_bad_share). Received: {folder}, {most} unreadable at the start, such as "
        f"{paths[0]} ({flaws[0]})"
    )


def file_rows(
    paths: Sequence[str],
    labels: np.ndarray | None,
    channels: int,
    max_bad_share: float = MAX_BAD_SHARE,
) -> Rows:
    """A source that reads arrays; see `image_files.file_rows` for the arguments."""
    return rows_of_files(paths, labels, channels, max_bad_share, load_array)


def load_array(path: str, channels: int) -> tuple[np.ndarray, str | None]:
    """An array as uint8 `[h, w, channels]`, and why it cannot be used or None."""
    flaw = flaw_of_array(path, channels)
    if flaw is None:
        try:
            array = np.load(path, allow_pickle=False)
        except (OSError, EOFError, ValueError):
            flaw = "changed while it was read"
        else:
            flaw = _flaw(array, channels)
    if flaw is not None:
        return np.zeros((0, 0, channels), np.uint8), flaw
    return array if array.ndim == 3 else array[..., None], None


def flaw_of_array(path: str, channels: int | None = None) -> str | None:
    """Why an array cannot be used as an image, in a few words; None if it can.

    Args:
        path: of a `.npy` file.
        channels: int. Required number of channels; None for any.
    """
    try:
        check_regular(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as error:
        return f"{UNOPENED}: {error.strerror or error}"
    except (EOFError, ValueError):
        return "NPY that is damaged, cut short or of Python objects"
    return _flaw(array, channels)


def _flaw(array, channels):
    found = f"array of {array.dtype} {list(array.shape)}"
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        return f"{found}, not uint8 [h, w, C]"
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        return f"{found}, more than {MAX_PIXELS:,} pixels"
    if has_channels_first(array.shape):
        return f"{found}, probably [C, h, w] instead of [h, w, C]"
    if channels not in (None, _channels(array)):
        return f"{found}, not of {channels} channels"
    return None


def has_channels_first(shape: tuple[int, ...]) -> bool:
    """Whether a shape is probably that of an image `[C, h, w]`, not `[h, w, C]`."""
    if len(shape) != 3:
        return False
    first, height, width = shape
    is_square = height == width > max(first, 4)
    return is_square or min(height, width) > max(16, 4 * first - 1)


def _channels(array):
    return array.shape[2] if array.ndim == 3 else 1
