"""A folder of image files, or of arrays, as `ImageData`."""

import functools
import os

import gin

from byol_keras.data import array_files, image_files
from byol_keras.data.folder_contents import log_contents, why_no_classes
from byol_keras.data.image_data import ImageData
from byol_keras.data.unreadable import MAX_BAD_SHARE
from byol_keras.data.value_range import warn_of_dark_images
from byol_keras.runtime.argument_checks import existing_folder, is_int
from byol_keras.runtime.printable import printable


@gin.register(module="byol_keras")
def image_folder(
    path: str | os.PathLike,
    channels: int | None = None,
    max_bad_share: float = MAX_BAD_SHARE,
    exif_orientation: bool = True,
    bits: int | None = None,
    short_side: int | None = None,
) -> ImageData:
    """All images below a folder, in the order of their relative paths.

    JPEG, PNG, BMP, GIF, WebP, TIFF and PPM, and where Pillow can read them AVIF and
    HEIC. A folder without any of these may hold arrays instead, with any number of
    channels: see `array_files`. Hidden files and folders are left out, and so are those
    of operating systems, see `image_files.FOREIGN_FOLDERS`. If all images are in
    sub-folders, the first level of sub-folders gives the classes; otherwise there are
    no labels. What is found is logged, see `folder_contents`. Images that cannot be
    decoded are replaced or left out by the rules in `readable_files`.

    Args:
        path: the folder.
        channels: 1 or 3. Defaults to 3, or 1 if all images examined are grey, see
            `image_files.common_channels`. Arrays keep their own.
        max_bad_share: float in 0..1. Reading ends with an error as soon as more than
            this share of the images is known to be unreadable.
        exif_orientation: bool. Whether images are turned as their EXIF data say, as
            viewers and the reader of mmselfsup 0.x do, but not torchvision and Keras.
            TIFF and HEIC are always turned, by Pillow.
        bits: int in 8..16. Bits of the values in images stored with 16 bits: values of
            0 to `2^bits - 1` are scaled to 0..255, larger ones are clipped. In colour
            for PNG only. Defaults to all 16, of which the upper 8 are kept, as in
            TensorFlow and OpenCV; see `value_range` for a warning of dark images.
        short_side: int of at least 8. Images with a longer short side are reduced to
            it, once, and kept in memory, see `reduced_images`: for views that are much
            smaller than the images, whose decoding would take most of the time. Take
            one and a half times the size of the views or more. Not for arrays.

    Returns:
        `ImageData` of encoded images of any size.

    Raises:
        ValueError: if there is no such folder, no image in it, or too many of those
            examined are unreadable; if an argument is out of its range.
    """
    if channels not in (None, 1, 3):
        raise ValueError(f"channels must be None, 1 or 3. Received: {channels!r}")
    reading = _reading(exif_orientation, bits)
    if short_side is not None and not is_int(short_side, least=8):
        raise ValueError(
            f"short_side must be None or an int of at least 8. Received: {short_side!r}"
        )
    folder = existing_folder("path", path)
    contents = image_files.find_images(folder, otherwise=array_files.SUFFIXES)
    files = contents.files
    paths = [os.path.join(folder, file) for file in files]
    if files[0].lower().endswith(array_files.SUFFIXES):
        found = array_files.common_channels(paths, folder, max_bad_share)
        if channels not in (None, found):
            raise ValueError(
                f"channels must be None or those of the arrays, {found}. "
                f"Received: {channels}"
            )
        for name, value in (("bits", bits), ("short_side", short_side)):
            if value is not None:
                raise ValueError(f"{name} must be None for arrays. Received: {value}")
        file_rows = array_files.file_rows
    else:
        found = image_files.common_channels(paths, folder, max_bad_share)
        file_rows = functools.partial(
            image_files.file_rows, reading=reading, short_side=short_side
        )
        if bits is None:
            warn_of_dark_images(paths, folder)
    channels = channels or found
    class_names, labels = _classes(files)
    log_contents(folder, contents, class_names)
    name = f"images in {printable(folder)}"
    if class_names is None and (reason := why_no_classes(files)):
        name += f" ({reason})"
    return ImageData(
        name,
        len(paths),
        channels,
        None,
        class_names,
        file_rows(paths, labels, channels, max_bad_share),
        names=[_in_utf_8(file) for file in files],
    )


def _reading(exif_orientation, bits):
    """Arguments of `image_bytes.readable` that are not at their defaults."""
    if not isinstance(exif_orientation, bool):
        raise ValueError(
            f"exif_orientation must be a bool. Received: {exif_orientation!r}"
        )
    if bits is not None and not (is_int(bits, least=8) and bits <= 16):
        raise ValueError(f"bits must be None or an int in 8..16. Received: {bits!r}")
    given = {"exif_orientation": exif_orientation, "bits": bits}
    return {name: value for name, value in given.items() if value not in (True, None)}


def _classes(files):
    """Class names, and the label of each file; None and None without classes."""
    if not all("/" in file for file in files):
        return None, None
    folders = [file.split("/")[0] for file in files]
    class_names = tuple(sorted(set(folders)))
    label_of = {name: label for label, name in enumerate(class_names)}
    labels = [label_of[name] for name in folders]
    return tuple(_in_utf_8(name) for name in class_names), labels


def _in_utf_8(name):
    """The name of a file; one that is not UTF-8 could not be written to files."""
    return os.fsencode(name).decode(errors="backslashreplace")
