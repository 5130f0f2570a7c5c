"""Draws images of one object each, whose factors are known and independent.

    python experiments/factors_resnet18_64px/make_inputs.py runs/factors

writes

- `images/`: training images, without labels;
- `FACTOR/train/VALUE/` for every factor: links to the first of these images, sorted by
  the factor's value;
- `FACTOR/test/VALUE/`: new images, sorted likewise;
- `examples.png`: the first images in one picture.
"""

import os
import pathlib
import sys

import keras
import numpy as np

SIZE = 64
NUM_IMAGES = 10000
NUM_LABELLED = 4000
NUM_TEST = 2000

FACTORS = {
    "shape": ("circle", "square", "triangle", "star", "cross", "ring"),
    "colour": ("red", "yellow", "green", "cyan", "blue", "magenta"),
    "fill": ("solid", "stripes", "dots"),
    "size": ("small", "medium", "large"),
    "position": tuple(f"{y}_{x}" for y in "123" for x in "123"),
    "background": ("gradient", "clouds", "bricks", "lines"),
}
RADII = {"small": 9.0, "medium": 13.0, "large": 18.0}
# Pixels are drawn as means of 2 x 2.
_FINE = 2


def draw(values: dict[str, str], rng: np.random.Generator) -> np.ndarray:
    """Draws an image with the given factors; everything else in it is random.

    Args:
        values: one of `FACTORS[name]` for each name.
        rng: for tilt, shades, and shifts within a value.

    Returns:
        uint8 `[64, 64, 3]`.
    """
    grid = (np.arange(SIZE * _FINE) + 0.5) / _FINE
    y, x = np.meshgrid(grid, grid, indexing="ij")
    row, column = map(int, values["position"].split("_"))
    y_centre, x_centre = 14.0 * np.array([row, column]) + 4.0 + rng.uniform(-3, 3, 2)
    tilt = rng.uniform(-0.35, 0.35)
    turn = np.exp(-1j * tilt)
    inner = ((x - x_centre) + 1j * (y - y_centre)) * turn
    radius = RADII[values["size"]] * rng.uniform(0.9, 1.1)
    mask = _inside(values["shape"], inner / radius)
    paint = _paint(values["colour"], rng) * _fill(values["fill"], inner)[..., None]
    image = np.where(
        mask[..., None], paint, _background(values["background"], y, x, rng)
    )
    fine = image.reshape(SIZE, _FINE, SIZE, _FINE, 3).mean(axis=(1, 3))
    return np.uint8(np.clip(np.rint(255.0 * fine), 0, 255))


def _inside(shape, z):
    """Whether complex numbers are inside a shape of radius 1 around 0."""
    distance, angle = np.abs(z), np.angle(z)
    if shape == "circle":
        return distance < 0.9
    if shape == "ring":
        return (distance < 1.0) & (distance > 0.55)
    if shape == "square":
        return np.maximum(np.abs(z.real), np.abs(z.imag)) < 0.8
    if shape == "cross":
        thin = np.minimum(np.abs(z.real), np.abs(z.imag)) < 0.3
        return thin & (np.maximum(np.abs(z.real), np.abs(z.imag)) < 1.0)
    corners = {"triangle": 3, "star": 5}[shape]
    sector = 2 * np.pi / corners
    # From the middle of a side; a corner points up.
    off = np.mod(angle + np.pi / 2, sector) - sector / 2
    if shape == "triangle":
        return distance * np.cos(off) < 0.55
    # Straight from a tip at 1.1 to a notch at 0.45.
    along = 1.0 - np.abs(off) / (sector / 2)
    edge = 1.1 * 0.45 * np.sin(sector / 2)
    edge /= 1.1 * np.sin(along * sector / 2) + 0.45 * np.sin((1 - along) * sector / 2)
    return distance < edge


def _paint(colour, rng):
    """RGB of a hue, shifted by up to 12 degrees, saturated and fairly light."""
    hue = 60.0 * FACTORS["colour"].index(colour) + rng.uniform(-12, 12)
    saturation, value = rng.uniform(0.65, 1.0), rng.uniform(0.75, 1.0)
    steps = (np.array([5.0, 3.0, 1.0]) + hue / 60.0) % 6
    return value * (1 - saturation * np.clip(np.minimum(steps, 4 - steps), 0, 1))


def _fill(fill, inner):
    """Factor in 0..1 that the paint is multiplied with."""
    if fill == "solid":
        return np.ones(inner.shape)
    if fill == "stripes":
        dark = np.mod(inner.real, 4.0) < 2.0
    else:
        to_dot = np.hypot(np.mod(inner.real, 5.0) - 2.5, np.mod(inner.imag, 5.0) - 2.5)
        dark = to_dot < 1.5
    return np.where(dark, 0.35, 1.0)


def _background(kind, y, x, rng):
    """A pale texture in two shades of one weak colour."""
    if kind == "gradient":
        angle = rng.uniform(0, 2 * np.pi)
        level = (x * np.cos(angle) + y * np.sin(angle)) / (1.5 * SIZE) % 1.0
        level = np.abs(2 * level - 1)
    elif kind == "clouds":
        coarse = rng.uniform(0, 1, (9, 9))
        steps = np.linspace(0, 8, SIZE * _FINE)
        rows = np.array([np.interp(steps, range(9), line) for line in coarse])
        level = np.array([np.interp(steps, range(9), line) for line in rows.T]).T
    elif kind == "bricks":
        row = np.floor(y / 8)
        along = np.mod(x + 6 * row + rng.uniform(0, 12), 12)
        level = 1.0 * ((np.mod(y, 8) < 1.5) | (along < 1.5))
    else:
        level = 1.0 * (np.mod(y + rng.uniform(-0.4, 0.4) * x, 6) < 2)
    tint = 1.0 - 0.15 * rng.uniform(0, 1, 3)
    dark, light = rng.uniform(0.35, 0.55), rng.uniform(0.65, 0.9)
    return (dark + (light - dark) * level)[..., None] * tint


def numbered_image(number: int) -> tuple[dict[str, str], np.ndarray]:
    """Factors and image of a number: a pure function of it."""
    rng = np.random.default_rng((0, number))
    values = {name: str(rng.choice(known)) for name, known in FACTORS.items()}
    return values, draw(values, rng)


def write_sheet(file: pathlib.Path, rows: int = 3, columns: int = 12) -> None:
    """Writes a picture of the first images."""
    images = [numbered_image(number)[1] for number in range(rows * columns)]
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    lines = [np.hstack(framed[i : i + columns]) for i in range(0, len(images), columns)]
    keras.utils.save_img(file, np.vstack(lines), scale=False)


def write_images(
    folder: pathlib.Path,
    num_images: int = NUM_IMAGES,
    num_labelled: int = NUM_LABELLED,
    num_test: int = NUM_TEST,
) -> None:
    """Writes the images and their sorted links; see the top of this file.

    Args:
        folder: created if missing.
        num_images: number of images in `images/`.
        num_labelled: number of these that are linked.
        num_test: number of test images, which are not in `images/`.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for number in range(num_images + num_test):
        values, image = numbered_image(number)
        file = folder / "images" / f"{number:05}.png"
        keras.utils.save_img(file, image, scale=False)
        split = "train" if number < num_images else "test"
        if split == "test" or number < num_labelled:
            for name, value in values.items():
                sorted_file = folder / name / split / value / file.name
                sorted_file.parent.mkdir(parents=True, exist_ok=True)
                os.link(file, sorted_file)
        if split == "test":
            file.unlink()


if __name__ == "__main__":
    target = pathlib.Path(sys.argv[1])
    if target.exists():
        sys.exit(f"the folder must not exist yet. Received: {target}")
    write_images(target)
    write_sheet(target / "examples.png")
    print(f"{NUM_IMAGES} images are in {target / 'images'}, sorted ones in {target}")
