"""Decoding in the graph: the shape, all pixels or crops of an encoded image."""

import tensorflow as tf

from byol_keras.data.orientation import (
    is_marked,
    mark_of,
    stored_box,
    turned,
    turned_size,
)

# Larger images are not decoded: one of them could fill the memory.
MAX_PIXELS = 1 << 27
# Larger images are decoded at half or a quarter of their height and width: crops are
# resized in float32, which would take more than 200 MB per thread.
WHOLE_PIXELS = 1 << 24
# 2^27 pixels at a quarter of height and width are 2^23.
_RATIOS = (1, 2, 4)

# The pixels that Pillow, and therefore torchvision, decodes. TensorFlow's default
# transform depends on the platform.
_JPEG = {"dct_method": "INTEGER_ACCURATE", "fancy_upscaling": True}

# Pixels decoded beyond every side of a crop and cut off again: chroma is interpolated
# between neighbours, which the border of a crop lacks.
_JPEG_MARGIN = 2

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def shape(image, channels: int) -> tf.Tensor:
    """int32 `[3]` of `decode(image, channels)`; of JPEG and PNG without decoding."""
    size = _of_kind(
        image,
        lambda: _other_size(image),
        lambda: _jpeg_size(image),
        lambda: turned_size(_jpeg_size(image), mark_of(image)),
    )
    return tf.concat([size, [channels]], axis=0)


def decode(image, channels: int) -> tf.Tensor:
    """Pixels of an encoded image.

    For three channels, grey is repeated; for one channel, colour is converted to luma,
    of which a JPEG stores its own. Transparency and all frames but the first are
    dropped; of 16 bits, the upper 8 are kept. The height and width of an image of more
    than `WHOLE_PIXELS` are halved or quartered, and a JPEG that `image_bytes.readable`
    has marked is turned upright, here as in `decode_crops` and `shape`.

    Args:
        image: string scalar, a result of `image_bytes.readable`: JPEG, PNG, GIF, WebP,
            or BMP of 24 or 32 bits.
        channels: int. Of the result. Values other than 1 and 3 must be the stored
            number of channels.

    Returns:
        uint8 `[h, w, channels]`.

    Deviation: torchvision decodes large images whole, and refuses those of more than
        179 million pixels. Pillow's colours of a CMYK JPEG differ by 1 in places.
    """
    return _of_kind(
        image,
        lambda: _decode_other(image, channels),
        lambda: _decode_jpeg(image, channels),
        lambda: turned(_decode_jpeg(image, channels), mark_of(image)),
    )


def decode_crops(image, boxes, channels: int) -> list[tf.Tensor]:
    """Crops `decode(image)[top : top + height, left : left + width]`, pixel for pixel.

    Only the crops of a JPEG are decoded; an image of another format is decoded once for
    all its crops.

    Args:
        image: string scalar.
        boxes: list of int32 `[4]`: top, left, height, width; within the image.
        channels: int.

    Returns:
        list of uint8 `[height, width, channels]`.
    """

    def of_jpeg():
        return [_decode_jpeg(image, channels, box) for box in boxes]

    def of_other():
        whole = _decode_other(image, channels)
        return [cut(whole, box[:2], box[2:]) for box in boxes]

    def of_marked():
        orientation = mark_of(image)
        size = turned_size(_jpeg_size(image), orientation)
        crops = []
        for box in boxes:
            crop = _decode_jpeg(image, channels, stored_box(box, size, orientation))
            crops.append(turned(crop, orientation))
        return crops

    return _of_kind(image, of_other, of_jpeg, of_marked)


def to_float(images) -> tf.Tensor:
    """Pixels as float32 in 0..1.

    Args:
        images: uint8, or float32 in 0..1, which is returned unchanged.
    """
    if images.dtype == tf.uint8:
        return tf.cast(images, tf.float32) / 255.0
    return images


def cut(image, begin, size) -> tf.Tensor:
    """The part of an image `[h, w, C]` at `begin`; both arguments are (y, x) pairs."""
    return image[begin[0] : begin[0] + size[0], begin[1] : begin[1] + size[1]]


def png_size(image) -> tf.Tensor:
    """int32 `[2]`: height and width in the header of an encoded PNG."""
    header = tf.strings.substr(image, 16, 8)
    size = tf.io.decode_raw(header, tf.int32, little_endian=False)
    return tf.ensure_shape(size, [2])[::-1]  # the header has the width first


def channels_of(image) -> int:
    """1 for grey and 3 for colour, without transparency; the image is encoded."""
    return 3 if decode_as_stored(image).shape[-1] >= 3 else 1


def ratio_of(size) -> tf.Tensor:
    """int32 scalar: the divisor of an image's height and width.

    Args:
        size: int32 `[2]`: height, width.
    """
    return tf.gather(_RATIOS, _ratio_index(size))


def _ratio_index(size):
    pixels = tf.reduce_prod(tf.cast(size, tf.int64))
    too_many = [pixels > WHOLE_PIXELS * ratio**2 for ratio in _RATIOS[:-1]]
    return tf.reduce_sum(tf.cast(too_many, tf.int32))


def _of_kind(image, other, jpeg, marked_jpeg):
    """The value of one of three functions, by the kind of the encoded image."""
    of_jpeg = tf.cast(tf.io.is_jpeg(image), tf.int32)
    kind = of_jpeg + tf.cast(is_marked(image), tf.int32)
    return tf.switch_case(kind, [other, jpeg, marked_jpeg])


def _jpeg_size(image):
    return _reduced_size(tf.io.extract_jpeg_shape(image)[:2])


def _reduced_size(size):
    return -(-size // ratio_of(size))


def _other_size(image):
    return tf.cond(
        tf.strings.substr(image, 0, len(_PNG_SIGNATURE)) == _PNG_SIGNATURE,
        lambda: _reduced_size(png_size(image)),
        lambda: tf.shape(_reduced(decode_as_stored(image)))[:2],
    )


def _decode_jpeg(image, channels, box=None):
    stored = tf.io.extract_jpeg_shape(image)
    size = stored[:2]

    def at(ratio, channels):
        if box is None:
            return tf.io.decode_jpeg(image, channels, ratio=ratio, **_JPEG)
        whole = -(-size // ratio)
        begin = tf.maximum(box[:2] - _JPEG_MARGIN, 0)
        end = tf.minimum(box[:2] + box[2:] + _JPEG_MARGIN, whole)
        window = tf.concat([begin, end - begin], 0)
        crop = tf.io.decode_and_crop_jpeg(image, window, channels, ratio=ratio, **_JPEG)
        return cut(crop, box[:2] - begin, box[2:])

    def in_channels(channels):
        branches = [lambda ratio=ratio: at(ratio, channels) for ratio in _RATIOS]
        return tf.switch_case(_ratio_index(size), branches)

    if channels != 1:
        return in_channels(3)
    # libjpeg cannot convert CMYK to grey.
    return tf.cond(
        stored[2] == 4, lambda: _luma(in_channels(3)), lambda: in_channels(1)
    )


def _decode_other(image, channels):
    # With a channel count, decode_image refuses some formats (grey BMP and GIF,
    # transparent WebP): decode the stored channels, then convert.
    image = _reduced(decode_as_stored(image))
    if channels not in (1, 3):
        return image
    is_colour = tf.shape(image)[-1] >= 3
    if channels == 3:
        return tf.cond(
            is_colour,
            lambda: image[..., :3],
            lambda: tf.repeat(image[..., :1], 3, axis=-1),
        )
    return tf.cond(is_colour, lambda: _luma(image), lambda: image[..., :1])


def _luma(image):
    return tf.image.rgb_to_grayscale(tf.ensure_shape(image[..., :3], [None, None, 3]))


def decode_as_stored(image):
    """uint8 `[h, w, c]` of any format but TIFF; the first frame of an animation."""
    image = tf.io.decode_image(image, expand_animations=False)
    image.set_shape([None, None, None])
    return image


def _reduced(image):
    size = tf.shape(image)[:2]

    def means():
        # This method takes uint8; a float copy would need four times the memory.
        means = tf.image.resize(image, _reduced_size(size), method="area")
        return tf.cast(tf.round(means), tf.uint8)

    return tf.cond(_ratio_index(size) > 0, means, lambda: image)
