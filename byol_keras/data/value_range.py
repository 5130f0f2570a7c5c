"""Images of 16 bits with values of fewer, such as the 12 bits of a camera.

Of 16 bits the upper 8 are kept, so these images are nearly black. No rule per image
could mend it, since a dark image would become bright. No file says it reliably, either:
PNG's sBIT is meant for values scaled to 16 bits, TIFF's MaxSampleValue for statistics.
"""

import logging
import os
import pathlib
from collections.abc import Sequence

import numpy as np

from byol_keras.data import decoding
from byol_keras.data.image_bytes import bits_of, readable
from byol_keras.data.spread import spread
from byol_keras.runtime.printable import printable
from byol_keras.runtime.regular_files import check_regular

_log = logging.getLogger("byol_keras")
# Images examined in a folder.
_SAMPLE_SIZE = 16
# Upper 8 bits of the values below a quarter of the range, as those of 14 bits are.
_DARK = 64


def is_dark(most: int, bits: int) -> bool:
    """Whether the largest value, as it is read, is a small part of more than 8 bits.

    Args:
        most: int in 0..255.
        bits: int. As stored, see `image_bytes.bits_of`.
    """
    return bits > 8 and most < _DARK


def remedy(most: int) -> str:
    """The binding that spreads values of 16 bits over the range, in a few words.

    Args:
        most: int in 0..255. Largest value as it is read.
    """
    bits = 8 + int(most).bit_length()
    return f"values of {bits} bits need image_folder.bits = {bits}"


def warn_of_dark_images(paths: Sequence[str], folder: str | os.PathLike) -> None:
    """Warns if images of 16 bits use less than a quarter of the range, all of them.

    Args:
        paths: of image files, of which 16 are examined.
        folder: they are in.
    """
    examined = spread(paths, _SAMPLE_SIZE)
    found = [most for path in examined if (most := _most_of_16_bits(path)) is not None]
    if found and is_dark(max(found), 16):
        _log.warning(
            "%d of %d images examined in %s have 16 bits, of which the upper 8 are "
            "read, and values up to %d of 65535: %s",
            len(found),
            len(examined),
            printable(folder),
            256 * max(found) + 255,
            remedy(max(found)),
        )


def _most_of_16_bits(path):
    """The largest value as it is read; None for other and for unreadable images."""
    try:
        check_regular(path)
        data = pathlib.Path(path).read_bytes()
        if bits_of(data) == 16:
            return int(np.max(decoding.decode(readable(data), 3)))
    except Exception:  # TensorFlow and Pillow raise many kinds
        pass
    return None
