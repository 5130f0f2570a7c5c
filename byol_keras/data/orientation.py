"""How an image must be turned to be upright: the orientation of EXIF data.

`image_bytes.readable` looks for it once for each file. A JPEG that must be turned gets
a segment at its start, which the graph finds at a fixed place; the pixels are turned
after decoding, so that crops still need no decoding of the whole.
"""

import contextlib

import tensorflow as tf
from PIL import ExifTags, Image

# Orientation -> whether rows and columns are exchanged, and whether the result is then
# flipped top to bottom and left to right. Source: EXIF 2.3, tag 274.
_TURNS = {
    1: (False, False, False),
    2: (False, False, True),
    3: (False, True, True),
    4: (False, True, False),
    5: (True, False, False),
    6: (True, False, True),
    7: (True, True, True),
    8: (True, True, False),
}
_PILLOW_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# The start of a JPEG and a segment for applications, which decoders skip; one digit
# follows.
_MARK = b"\xff\xd8\xff\xef\x00\x1aupright by orientation "


def orientation_of(image: Image.Image) -> int:
    """1..8 by the EXIF or XMP data of a Pillow image; 1 without or with damaged data.

    For PNG without EXIF data before its pixels, Pillow decodes it.
    """
    with contextlib.suppress(Exception):  # Pillow raises many kinds for bad data
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
        if found in _TURNS:
            return int(found)
    return 1


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The Pillow image turned as its orientation says."""
    turn = _PILLOW_TURNS.get(orientation)
    return image if turn is None else image.transpose(turn)


def upright_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Height and width after turning, from those of the stored image."""
    return size[::-1] if _TURNS[orientation][0] else size


def marked(jpeg: bytes, orientation: int) -> bytes:
    """The JPEG with the segment that `is_marked` and `mark_of` find."""
    return _MARK + b"%d" % orientation + jpeg[2:]


def is_marked(image) -> tf.Tensor:
    """bool scalar: whether an encoded image is a result of `marked`."""
    return tf.strings.substr(image, 0, len(_MARK)) == _MARK


def mark_of(image) -> tf.Tensor:
    """int32 scalar: the orientation of a marked image."""
    return tf.strings.to_number(tf.strings.substr(image, len(_MARK), 1), tf.int32)


def turned(image, orientation) -> tf.Tensor:
    """Pixels `[h, w, C]` turned upright.

    Args:
        image: tensor.
        orientation: int, or int32 scalar, in 1..8.
    """

    def turn(exchanged, *flipped):
        result = tf.transpose(image, [1, 0, 2]) if exchanged else image
        axes = [axis for axis, is_flipped in enumerate(flipped) if is_flipped]
        return tf.reverse(result, axes) if axes else result

    branches = [lambda how=how: turn(*how) for how in _TURNS.values()]
    return tf.switch_case(tf.convert_to_tensor(orientation) - 1, branches)


def stored_box(box, size, orientation) -> tf.Tensor:
    """The box of a stored image that holds the pixels of a box of the upright one.

    Args:
        box: int32 `[4]`: top, left, height, width; within the upright image.
        size: int32 `[2]`: height, width of the upright image.
        orientation: int32 scalar in 1..8.
    """
    how = tf.gather(tf.constant(list(_TURNS.values())), orientation - 1)
    begin, sides = box[:2], box[2:]
    begin = tf.where(how[1:], size - begin - sides, begin)
    return tf.where(
        how[0],
        tf.concat([begin[::-1], sides[::-1]], 0),
        tf.concat([begin, sides], 0),
    )


def turned_size(size, orientation) -> tf.Tensor:
    """int32 `[2]`: height and width exchanged where the orientation says so.

    Args:
        size: int32 `[2]`.
        orientation: int32 scalar in 1..8.
    """
    return tf.where(orientation >= 5, size[::-1], size)
