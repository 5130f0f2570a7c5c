"""Images and masks of a segmentation dataset: reading and checks."""

import concurrent.futures
import dataclasses
import hashlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
from PIL import Image

from byol_keras.data.orientation import orientation_of, upright, upright_size
from byol_keras.data.sources import Rows, file_stamps
from byol_keras.runtime.host_calls import host_function
from byol_keras.runtime.regular_files import check_regular

# Class of values that are not allowed in a mask.
UNKNOWN = 254
_CHECKS_AT_ONCE = 8
_SHOWN_PROBLEMS = 5
# Pillow spreads gray values of two and four bits over 0..255.
_SPREAD = {"L;2": 85, "L;4": 17}


@dataclasses.dataclass(frozen=True)
class SegmentationData:
    """Paths of images and masks, whose files are read on demand.

    Args:
        name: str. Dataset and path, for messages.
        class_names: names of the classes, by class.
        images: paths of the images.
        masks: paths of the masks: images with one value per pixel, with or without a
            palette, or SBD's `.mat` files.
        values: uint8 `[256]`: value in a mask -> class, 255 for ignored pixels, or 254
            for values that are not allowed.
    """

    name: str
    class_names: tuple[str, ...]
    images: tuple[str, ...]
    masks: tuple[str, ...]
    values: np.ndarray

    def digest(self) -> str:
        """Hex digest that changes with the files, their order, and the classes."""
        digest = hashlib.sha256(repr(self.class_names).encode() + self.values.tobytes())
        for stamp in file_stamps((*self.images, *self.masks)):
            digest.update(stamp)
        return digest.hexdigest()

    def problem(self, place: int) -> str | None:
        """The problem of the mask at a place, in a few words; None if it is good.

        Good masks are those of images that can be decoded.
        """
        try:
            mask = _read_values(self.masks[place])
        except Exception as error:  # Pillow and SciPy raise many kinds for bad files
            return f"unreadable ({type(error).__name__})"
        path = self.images[place]
        try:
            size = _read_image(path, mask.shape).shape[:2]
        except Exception as error:
            return f"on an unreadable image, {path} ({type(error).__name__})"
        if mask.shape != size:
            return f"of shape {mask.shape} on an image of {size}"
        if not np.issubdtype(mask.dtype, np.integer):
            return f"of values of {mask.dtype}"
        found = np.unique(mask)
        known = found[(found >= 0) & (found < len(self.values))]
        unknown = {*found} - {*known[self.values[known] != UNKNOWN]}
        return f"with value {min(unknown)}" if unknown else None

    def without_bad_masks(self) -> tuple["SegmentationData", list[str]]:
        """The examples with good masks and images, and one line for each of the others.

        Raises:
            ValueError: if no mask is good.
        """
        with concurrent.futures.ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
            problems = list(pool.map(self.problem, range(len(self.masks))))
        good = [place for place, problem in enumerate(problems) if problem is None]
        bad = [
            f"{path} is {problem}"
            for path, problem in zip(self.masks, problems, strict=True)
            if problem is not None
        ]
        if not good:
            raise ValueError(
                f"path must hold good masks. Received: {self.name}, where {bad[0]}"
            )
        return dataclasses.replace(
            self,
            images=tuple(self.images[place] for place in good),
            masks=tuple(self.masks[place] for place in good),
        ), bad

    def read(self, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Image uint8 `[h, w, 3]`, and its mask uint8 `[h, w]`: class, or 255.

        An image is turned as its EXIF data say, as by mmsegmentation, unless only the
        stored image has the size of the mask.
        """
        mask = _read_values(self.masks[place])
        return _read_image(self.images[place], mask.shape), self.values[mask]

    def rows(self) -> Rows:
        """The examples as dicts of `image` and `mask`; see `read`."""

        def fetch(place):
            image, mask = host_function(
                self.read, [place], (tf.uint8, tf.uint8), stateful=False
            )
            return {
                "image": tf.ensure_shape(image, (None, None, 3)),
                "mask": tf.ensure_shape(mask, (None, None)),
            }

        files = (*self.images, *self.masks)
        return Rows(len(files) // 2, fetch, contents=lambda: file_stamps(files))


def describe(bad: Sequence[str]) -> str:
    """One line that summarizes the bad masks found by `without_bad_masks`."""
    shown = "; ".join(bad[:_SHOWN_PROBLEMS])
    more = len(bad) - _SHOWN_PROBLEMS
    return f"{len(bad)} bad masks left out: {shown}" + (
        f"; and {more} more" if more > 0 else ""
    )


def scipy_io():
    """The module `scipy.io`.

    Raises:
        ValueError: if SciPy is not installed.
    """
    try:
        from scipy import io
    except ImportError as error:
        raise ValueError(
            "voc_segmentation.sbd_path needs SciPy to read .mat files: "
            'pip install "byol_keras[benchmarks]". Received: no module scipy'
        ) from error
    return io


def _read_image(path: str, size: tuple[int, ...]) -> np.ndarray:
    """The pixels of an image file, uint8 `[h, w, 3]`, for a mask of this size."""
    check_regular(path)
    with Image.open(path) as image:
        pixels, orientation = image.convert("RGB"), orientation_of(image)
    stored = (pixels.height, pixels.width)
    if size == stored != upright_size(stored, orientation):
        return np.asarray(pixels)
    return np.asarray(upright(pixels, orientation))


def _read_values(path: str) -> np.ndarray:
    """The values of a mask file, integers `[h, w]`, as its bits encode them."""
    check_regular(path)
    if path.endswith(".mat"):
        return scipy_io().loadmat(path)["GTcls"][0, 0]["Segmentation"]
    with Image.open(path) as mask:
        spread = _SPREAD.get(_bits_of_pixels(mask), 1)
        values = np.asarray(mask)
    if values.dtype == bool:
        return values.astype(np.uint8)
    return values // spread if spread > 1 else values


def _bits_of_pixels(image):
    """Pillow's name for the bits of a file, or None."""
    code = image.tile[0][3] if image.tile else None
    return code[0] if isinstance(code, tuple) and code else code
