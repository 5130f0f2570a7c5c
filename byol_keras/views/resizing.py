"""Crops and resizes uint8 images to planes, compiled by numba; see `kernels`."""

import numpy as np

from byol_keras.views.kernels import ZERO, clip, compiled


@compiled
def resized_crops(images, boxes, cubic, antialias, planes):
    """Crops a box of every image and resizes it.

    Args:
        images: uint8 `[n, h, w, C]`.
        boxes: int `[n, 4]`: top, left, height, width; within the image.
        cubic: bool. True for Keys's kernel, a = -0.5; False for the bilinear triangle.
        antialias: bool. Widens the kernel where the image is reduced.
        planes: float32 `[n, C, H, W]`. Receives the result, in 0..1.
    """
    for n in range(images.shape[0]):
        _resize(images[n], boxes[n], cubic, antialias, planes[n])


@compiled
def resized_packed(values, splits, sizes, cubic, antialias, planes):
    """Resizes consecutive crops of different sizes.

    Args:
        values: uint8. Crops `[h, w, C]`, or float32 planes `[C, H, W]` of crops that
            are resized already.
        splits: int64 `[n + 1]`. Where in `values` each crop begins and ends.
        sizes: int32 `[n, 2]`: height, width; 0 and 0 for planes.
        cubic, antialias: see `resized_crops`.
        planes: float32 `[n, C, H, W]`. Receives the result, in 0..1.
    """
    box = np.zeros(4, np.int32)
    for n in range(planes.shape[0]):
        packed = values[splits[n] : splits[n + 1]]
        height, width = sizes[n]
        if height == 0:
            planes[n].reshape(-1).view(np.uint8)[:] = packed
            continue
        box[2], box[3] = height, width
        crop = packed.reshape(height, width, planes.shape[1])
        _resize(crop, box, cubic, antialias, planes[n])


@compiled
def _resize(image, box, cubic, antialias, planes):
    top, left, height, width = box
    channels, new_height, new_width = planes.shape
    rows, row_weights = _taps(height, new_height, cubic, antialias)
    columns, column_weights = _taps(width, new_width, cubic, antialias)
    column_weights /= np.float32(255)
    first, last = channels * left, channels * (left + width)
    pixels = image[top : top + height].reshape(height, -1)[:, first:last]
    line = np.empty(channels * width, np.float32)
    for y in range(new_height):
        _mix_rows(pixels, rows[:, y], row_weights[:, y], line)
        _mix_columns(line, columns, column_weights, planes[:, y])


@compiled
def _taps(size, new_size, cubic, antialias):
    """The source pixels of each new pixel of an axis, int `[K, new_size]`, and weights.

    The weights, float32, sum to 1. Pixels beyond the edge have weight 0.
    """
    scale = size / new_size
    stretch = max(scale, 1.0) if antialias else 1.0
    support = stretch * (2.0 if cubic else 1.0)
    count = int(np.ceil(2.0 * support))
    # Unsigned indices spare the loops the check for negative ones.
    pixels = np.empty((count, new_size), np.uint64)
    weights = np.empty((count, new_size), np.float32)
    for i in range(new_size):
        centre = (i + 0.5) * scale - 0.5
        first = int(np.floor(centre - support)) + 1
        total = 0.0
        for k in range(count):
            pixel = first + k
            weight = 0.0
            if 0 <= pixel < size:
                weight = _kernel(abs(pixel - centre) / stretch, cubic)
            pixels[k, i] = min(max(pixel, 0), size - 1)
            weights[k, i] = weight
            total += weight
        for k in range(count):
            weights[k, i] /= total
    return pixels, weights


@compiled
def _kernel(x, cubic):
    if not cubic:
        return max(1.0 - x, 0.0)
    if x <= 1.0:
        return (1.5 * x - 2.5) * x * x + 1.0
    if x < 2.0:
        return ((2.5 - 0.5 * x) * x - 4.0) * x + 2.0
    return 0.0


@compiled
def _mix_rows(pixels, rows, weights, line):
    if rows.size == 4:
        # The usual bicubic case, unrolled: one pass instead of four.
        a, b, c, d = pixels[rows[0]], pixels[rows[1]], pixels[rows[2]], pixels[rows[3]]
        w, v, u, t = weights[0], weights[1], weights[2], weights[3]
        for i in range(line.size):
            upper = w * np.float32(a[i]) + v * np.float32(b[i])
            line[i] = upper + u * np.float32(c[i]) + t * np.float32(d[i])
        return
    line[:] = ZERO
    for k in range(rows.size):
        row, weight = pixels[rows[k]], weights[k]
        for i in range(line.size):
            line[i] += weight * np.float32(row[i])


@compiled
def _mix_columns(line, columns, weights, out):
    channels = out.shape[0]
    if channels == 3 and columns.shape[0] == 4:
        _mix_bicubic_colors(line, columns, weights, out)
        return
    for c in range(channels):
        row = out[c]
        for x in range(row.size):
            total = ZERO
            for k in range(columns.shape[0]):
                total += weights[k, x] * line[channels * columns[k, x] + c]
            row[x] = clip(total)


@compiled
def _mix_bicubic_colors(line, columns, weights, out):
    """The usual case, unrolled: every index and weight is read once."""
    reds, greens, blues = out
    for x in range(reds.size):
        a, b, c, d = columns[0, x], columns[1, x], columns[2, x], columns[3, x]
        w, v, u, t = weights[0, x], weights[1, x], weights[2, x], weights[3, x]
        a, b, c, d = 3 * a, 3 * b, 3 * c, 3 * d
        reds[x] = clip(w * line[a] + v * line[b] + u * line[c] + t * line[d])
        a, b, c, d = a + 1, b + 1, c + 1, d + 1
        greens[x] = clip(w * line[a] + v * line[b] + u * line[c] + t * line[d])
        a, b, c, d = a + 1, b + 1, c + 1, d + 1
        blues[x] = clip(w * line[a] + v * line[b] + u * line[c] + t * line[d])


@compiled
def channels_last(planes, images):
    """Writes planes `[n, C, H, W]`, clipped to 0..1, to images `[n, H, W, C]`."""
    count, channels = planes.shape[:2]
    for n in range(count):
        image, pixels = planes[n].reshape(channels, -1), images[n].ravel()
        if channels == 3:
            reds, greens, blues = image
            for i in range(reds.size):
                pixels[3 * i] = clip(reds[i])
                pixels[3 * i + 1] = clip(greens[i])
                pixels[3 * i + 2] = clip(blues[i])
            continue
        for c in range(channels):
            channel = image[c]
            for i in range(channel.size):
                pixels[channels * i + c] = clip(channel[i])
