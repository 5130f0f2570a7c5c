"""Augmentations on the host: loops over pixels, compiled by numba.

For every operation of an `augment`, TensorFlow passes through memory once. Here an
image stays in the processor's cache, and operations that its draws exclude are
skipped. The `augment_arrays` of a layer calls one of these functions. They release
Python's global lock, so that the threads of a `tf.data` pipeline run in parallel.

The functions take planes, float32 `[n, C, H, W]` in 0..1, and change in place the
images that are `chosen`, bool `[n]`.
"""

import functools

import numba
import numpy as np

# fastmath reorders sums, so that loops use whole vectors; no value here is NaN.
compiled = functools.partial(
    numba.njit, nogil=True, fastmath=True, error_model="numpy", cache=True
)

ZERO, ONE, TWO, THREE, FOUR, SIX = (np.float32(n) for n in (0, 1, 2, 3, 4, 6))
# Smaller than any chroma above 0; avoids a division by 0.
TINY = np.float32(1e-9)
# In sigmas: the taps beyond it sum to less than a ten-thousandth.
REACH = 4.0


@compiled
def clip(x):
    """A number clipped to 0..1."""
    return min(max(x, ZERO), ONE)


@compiled
def mirror(planes, chosen, left_right):
    """Mirrors images left to right or upside down."""
    for n in range(planes.shape[0]):
        if not chosen[n]:
            continue
        for c in range(planes.shape[1]):
            if left_right:
                for row in planes[n, c]:
                    _reverse(row)
            else:
                plane = planes[n, c]
                for y in range(plane.shape[0] // 2):
                    _swap_rows(plane[y], plane[plane.shape[0] - 1 - y])


@compiled
def _reverse(row):
    for x in range(row.size // 2):
        other = row.size - 1 - x
        row[x], row[other] = row[other], row[x]


@compiled
def _swap_rows(first, second):
    for x in range(first.size):
        first[x], second[x] = second[x], first[x]


@compiled
def shift_channels(planes, chosen, shifts):
    """Adds `shifts[n, c]` to every channel."""
    for n in range(planes.shape[0]):
        if chosen[n]:
            for c in range(planes.shape[1]):
                _scale_and_add(planes[n, c].ravel(), ONE, shifts[n, c])


@compiled
def solarize(planes, chosen, threshold):
    """Inverts pixels that are not below the threshold."""
    for n in range(planes.shape[0]):
        if chosen[n]:
            pixels = planes[n].ravel()
            for i in range(pixels.size):
                x = pixels[i]
                pixels[i] = x if x < threshold else ONE - x


@compiled
def gray(planes, chosen, weights):
    """Replaces every channel by the sum of all, weighted by `[C]`."""
    for n in range(planes.shape[0]):
        if chosen[n]:
            image = planes[n].reshape(planes.shape[1], -1)
            image[0] = _weighted(image, weights)
            for c in range(1, image.shape[0]):
                image[c] = image[0]


@compiled
def jitter(planes, chosen, shifts, orders, weights, multiplies):
    """Brightness, contrast, saturation and hue, in the order of each image.

    Args:
        shifts: float32 `[n, 4]`. An operation whose shift is 0 is skipped.
        orders: int `[n, 4]`: operation 0, 1, 2 or 3 at each place.
        weights: float32 `[C]`, of the grey image.
        multiplies: bool. Use torchvision's operations instead of DeepMind's; see
            `colors.ColorJitter`.
    """
    for n in range(planes.shape[0]):
        if not chosen[n]:
            continue
        image = planes[n].reshape(planes.shape[1], -1)
        for place in range(4):
            operation = orders[n, place]
            shift = shifts[n, operation]
            if shift == ZERO:
                continue
            if operation == 0:
                _brightness(image, shift, multiplies)
            elif operation == 1:
                _contrast(image, shift, weights, multiplies)
            elif operation == 2 and multiplies:
                _blend_with_gray(image, shift, weights)
            elif operation == 2:
                _scale_saturation(image, shift)
            else:
                _turn_hue(image, shift)


@compiled
def _scale_and_add(pixels, scale, offset):
    for i in range(pixels.size):
        pixels[i] = clip(scale * pixels[i] + offset)


@compiled
def _weighted(image, weights):
    total = weights[0] * image[0]
    for c in range(1, image.shape[0]):
        total += weights[c] * image[c]
    return total


@compiled
def _mean(pixels):
    total = ZERO
    for i in range(pixels.size):
        total += pixels[i]
    return total / np.float32(pixels.size)


@compiled
def _brightness(image, shift, multiplies):
    if multiplies:
        _scale_and_add(image.ravel(), ONE + shift, ZERO)
    else:
        _scale_and_add(image.ravel(), ONE, shift)


@compiled
def _contrast(image, shift, weights, multiplies):
    mean = ZERO
    if multiplies:
        for c in range(image.shape[0]):
            mean += weights[c] * _mean(image[c])
    for c in range(image.shape[0]):
        if not multiplies:
            mean = _mean(image[c])
        _scale_and_add(image[c], ONE + shift, -shift * mean)


@compiled
def _blend_with_gray(image, shift, weights):
    gray_image = _weighted(image, weights)
    for c in range(image.shape[0]):
        channel = image[c]
        for i in range(channel.size):
            channel[i] = clip((ONE + shift) * channel[i] - shift * gray_image[i])


@compiled
def _scale_saturation(image, shift):
    """Scales S of HSV by `1 + shift`: multiplies all distances from the value."""
    reds, greens, blues = image[0], image[1], image[2]
    for i in range(reds.size):
        red, green, blue = reds[i], greens[i], blues[i]
        value = max(red, max(green, blue))
        chroma = value - min(red, min(green, blue))
        # The least channel stays at 0 or above.
        ratio = min(ONE + shift, value / max(chroma, TINY))
        reds[i] = value - (value - red) * ratio
        greens[i] = value - (value - green) * ratio
        blues[i] = value - (value - blue) * ratio


@compiled
def _turn_hue(image, shift):
    """Rotates H of HSV by `shift` turns, for 3 channels."""
    reds, greens, blues = image[0], image[1], image[2]
    for i in range(reds.size):
        red, green, blue = reds[i], greens[i], blues[i]
        value = max(red, max(green, blue))
        least = min(red, min(green, blue))
        chroma = value - least
        share = ONE / max(chroma, TINY)
        # The hue in sixths of a turn: 0 red, 2 green, 4 blue.
        sixths = (red - green) * share + FOUR
        sixths = (blue - red) * share + TWO if green >= value else sixths
        sixths = (green - blue) * share if red >= value else sixths
        sixths += SIX * shift
        sixths = sixths + SIX if sixths < ZERO else sixths
        sixths = sixths - SIX if sixths >= SIX else sixths
        reds[i] = least + chroma * clip(abs(sixths - THREE) - ONE)
        greens[i] = least + chroma * clip(TWO - abs(sixths - TWO))
        blues[i] = least + chroma * clip(TWO - abs(sixths - FOUR))


@compiled
def blur(planes, chosen, sigmas, radius, extends):
    """Gaussian blur by `2 * radius + 1` taps; beyond the edge are zeros or the edge.

    Args:
        sigmas: float32 `[n]`, in pixels.
        radius: int. Radius of the kernel; outer taps of nearly 0 are skipped.
        extends: bool. Whether edge pixels are repeated beyond the edge.
    """
    count, channels, height, width = planes.shape
    rows = np.zeros((height + 2 * radius, width), np.float32)
    columns = np.zeros(width + 2 * radius, np.float32)
    for n in range(count):
        if not chosen[n]:
            continue
        reach = min(radius, max(1, int(np.ceil(REACH * sigmas[n]))))
        taps = _gaussian(sigmas[n], reach)
        for c in range(channels):
            plane = planes[n, c]
            for y in range(height):
                _copy(plane[y], rows[radius + y])
            for y in range(radius if extends else 0):
                _copy(plane[0], rows[y])
                _copy(plane[height - 1], rows[radius + height + y])
            for y in range(height):
                inner = columns[radius : radius + width]
                _sum_of_rows(rows, y + radius, taps, inner)
                for x in range(radius if extends else 0):
                    columns[x] = inner[0]
                    columns[radius + width + x] = inner[width - 1]
                _sum_of_shifts(columns, radius, taps, plane[y])


@compiled
def _copy(row, out):
    """out <- row. numba needs seconds to compile an assignment of arrays."""
    for x in range(out.size):
        out[x] = row[x]


@compiled
def _gaussian(sigma, reach):
    """float32 `[reach + 1]`: the middle tap and those of one side of the kernel."""
    taps = np.empty(reach + 1, np.float32)
    total = ZERO
    for k in range(reach + 1):
        distance = np.float32(k) / sigma
        taps[k] = np.exp(np.float32(-0.5) * distance * distance)
        total += taps[k] if k == 0 else TWO * taps[k]
    return taps / total


@compiled
def _sum_of_rows(rows, y, taps, out):
    """out <- the weighted sum of row y and those above and below it."""
    reach = taps.size - 1
    middle, above, below = rows[y], rows[y - 1], rows[y + 1]
    for x in range(out.size):
        out[x] = taps[0] * middle[x] + taps[1] * (above[x] + below[x])
    for k in range(2, reach, 2):  # two taps at a time load and store half as often
        near, far = taps[k], taps[k + 1]
        above, below = rows[y - k], rows[y + k]
        higher, lower = rows[y - k - 1], rows[y + k + 1]
        for x in range(out.size):
            out[x] += near * (above[x] + below[x]) + far * (higher[x] + lower[x])
    if reach > 1 and reach % 2 == 0:
        last, above, below = taps[reach], rows[y - reach], rows[y + reach]
        for x in range(out.size):
            out[x] += last * (above[x] + below[x])


@compiled
def _sum_of_shifts(row, radius, taps, out):
    """out <- the weighted sum of a padded row and its shifts to both sides."""
    size, reach = out.size, taps.size - 1
    middle, left, right = row[radius:], row[radius - 1 :], row[radius + 1 :]
    for x in range(size):
        out[x] = taps[0] * middle[x] + taps[1] * (left[x] + right[x])
    for k in range(2, reach, 2):
        near, far = taps[k], taps[k + 1]
        left, right = row[radius - k :], row[radius + k :]
        before, after = row[radius - k - 1 :], row[radius + k + 1 :]
        for x in range(size):
            out[x] += near * (left[x] + right[x]) + far * (before[x] + after[x])
    if reach > 1 and reach % 2 == 0:
        last, left, right = taps[reach], row[radius - reach :], row[radius + reach :]
        for x in range(size):
            out[x] += last * (left[x] + right[x])
