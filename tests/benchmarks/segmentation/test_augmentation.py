"""Training examples of segmentation: pixels, masks and random draws."""

import colorsys
import itertools

import numpy as np
import pytest

from byol_keras.benchmarks.segmentation.augmentation import (
    SegmentationView,
    scaled_size,
)
from byol_keras.benchmarks.segmentation.dataset import voc_segmentation

from support.scenes import make_scenes, write_vocdevkit

PADDING = (0.485, 0.456, 0.406)
# Draws that leave colours alone: at least 0.5 for each of the four changes.
NO_CHANGE = np.array([0.9, 0.9, 0.9, 0.9, 0.9, 0.5, 0.5, 0.5, 0.5], np.float32)


def draws(view, ratio=0.0, flip=0.9, colours=NO_CHANGE, crops=()):
    rest = view.draws - 11 - len(crops)
    return np.concatenate([[ratio, flip], colours, crops, np.zeros(rest)]).astype(
        np.float32
    )


def plain(**arguments):
    """A view that keeps the size of images of 4 x 6 pixels."""
    settings = {"scale": (6, 4), "ratios": (1.0, 1.0), "crop_size": 6}
    return SegmentationView(**(settings | arguments))


def example(seed=0, height=4, width=6):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.choice([0, 1, 255], (height, width)).astype(np.uint8)


@pytest.mark.parametrize(
    ("size", "scale", "expected"),
    [
        ((375, 500), (2048, 512), (512, 683)),  # the shorter side fits
        ((100, 1000), (2048, 512), (205, 2048)),  # the longer side does
        ((1024, 2048), (2049, 1025), (1025, 2049)),
        ((500, 375), (1024, 256), (341, 256)),
    ],
)
def test_size_is_the_largest_within_the_scale(size, scale, expected):
    assert tuple(scaled_size(size, scale).numpy()) == expected


def test_published_settings_are_the_defaults():
    view = SegmentationView()
    assert (view.scale, view.ratios, view.crop_size) == ((2048, 512), (0.5, 2.0), 512)
    assert (view.max_class_share, view.crop_retries, view.flip_rate) == (0.75, 10, 0.5)
    assert (view.brightness, view.hue) == (32.0, 18)


def test_small_image_is_padded_at_the_right_and_bottom():
    image, mask = example()
    view = plain(crop_size=8, padding=PADDING)
    found, labels = view.augment(image, mask, draws(view))
    np.testing.assert_allclose(found[:4, :6], image / 255.0, atol=1e-6)
    np.testing.assert_array_equal(labels[:4, :6], mask)
    rest = np.ones((8, 8), bool)
    rest[:4, :6] = False
    np.testing.assert_allclose(found[rest], np.tile(PADDING, (40, 1)), atol=1e-6)
    assert np.all(labels[rest] == 255)


def test_flip_mirrors_image_and_mask():
    image, mask = example(height=6)
    view = plain(scale=(6, 6), crop_retries=0)
    found, labels = view.augment(image, mask, draws(view, flip=0.49))
    np.testing.assert_allclose(found, image[:, ::-1] / 255.0, atol=1e-6)
    np.testing.assert_array_equal(labels, mask[:, ::-1])


def test_ratio_scales_the_image_and_the_mask():
    image = np.full((4, 6, 3), 51, np.uint8)
    mask = np.repeat([[0, 0, 0, 1, 1, 1]], 4, axis=0).astype(np.uint8)
    view = plain(ratios=(1.0, 3.0), crop_size=18)
    found, labels = view.augment(image, mask, draws(view, ratio=0.5))
    np.testing.assert_allclose(found[:8, :12], 0.2, atol=1e-6)
    assert labels[0].numpy().tolist() == [0] * 6 + [1] * 6 + [255] * 6
    assert np.all(labels[8:] == 255)


def test_crop_is_redrawn_while_one_class_has_75_percent():
    mask = np.zeros((4, 40), np.uint8)
    mask[:, 20:] = 1  # crops of one class but around the middle
    mask[0, :] = 255
    image = np.repeat(np.arange(40, dtype=np.uint8)[None, :, None], 4, axis=0)
    image = np.repeat(image, 3, axis=2)
    view = plain(scale=(40, 4), crop_size=4)
    starts = [0, 30, 17, 18]  # 17: three of four columns are class 0
    crops = np.array([(0.0, (start + 0.5) / 37) for start in starts]).ravel()
    found, labels = view.augment(image, mask, draws(view, crops=crops))
    assert (found[1, :, 0].numpy() * 255).round().tolist() == [18, 19, 20, 21]
    assert labels[1].numpy().tolist() == [0, 0, 1, 1]


def test_last_crop_is_used_if_none_is_mixed():
    mask = np.zeros((4, 40), np.uint8)
    image = np.repeat(np.arange(40, dtype=np.uint8)[None, :, None], 4, axis=0)
    image = np.repeat(image, 3, axis=2)
    view = plain(scale=(40, 4), crop_size=4)
    crops = np.array([(0.0, (start + 0.5) / 37) for start in range(11)]).ravel()
    found, _ = view.augment(image, mask, draws(view, crops=crops))
    assert (found[0, :, 0].numpy() * 255).round().tolist() == [10, 11, 12, 13]


def distorted(pixel, colours):
    image = np.array(pixel, np.float32)[None, None]
    return SegmentationView().distort(image, np.array(colours, np.float32))[0, 0]


def test_brightness_shifts_by_up_to_32_of_255():
    colours = NO_CHANGE.copy()
    colours[[0, 5]] = 0.0, 1.0
    found = distorted((0.2, 0.5, 0.95), colours)
    np.testing.assert_allclose(found, [0.2 + 32 / 255, 0.5 + 32 / 255, 1.0], atol=1e-6)


def test_contrast_multiplies_pixels():
    for last in (0.0, 0.9):
        colours = NO_CHANGE.copy()
        colours[[1, 4, 6]] = 0.0, last, 0.25  # between 0.5 and 1.5: 0.75
        np.testing.assert_allclose(
            distorted((0.2, 0.4, 0.8), colours), [0.15, 0.3, 0.6], atol=1e-6
        )


def test_contrast_comes_before_or_after_saturation():
    """Clipping before the saturation gives another result than clipping after it."""
    pixel, found = (0.9, 0.6, 0.6), {}
    for last in (0.0, 0.9):
        colours = NO_CHANGE.copy()
        colours[[1, 2, 4, 6, 7]] = 0.0, 0.0, last, 1.0, 0.0
        found[last] = distorted(pixel, colours).numpy()
    hue, saturation, value = colorsys.rgb_to_hsv(*pixel)
    after = np.minimum(
        1.5 * np.array(colorsys.hsv_to_rgb(hue, saturation / 2, value)), 1
    )
    first = np.minimum(1.5 * np.array(pixel), 1)
    hue, saturation, value = colorsys.rgb_to_hsv(*first)
    before = colorsys.hsv_to_rgb(hue, saturation / 2, value)
    np.testing.assert_allclose(found[0.0], after, atol=1e-5)
    np.testing.assert_allclose(found[0.9], before, atol=1e-5)
    assert np.abs(after - before).max() > 0.04


@pytest.mark.parametrize(("uniform", "turns"), [(0.0, -0.1), (0.999, 17 / 180)])
def test_hue_turns_by_at_most_18_of_180(uniform, turns):
    colours = NO_CHANGE.copy()
    colours[[3, 8]] = 0.0, uniform
    hue, saturation, value = colorsys.rgb_to_hsv(0.7, 0.3, 0.5)
    expected = colorsys.hsv_to_rgb((hue + turns) % 1.0, saturation, value)
    np.testing.assert_allclose(distorted((0.7, 0.3, 0.5), colours), expected, atol=1e-5)


# The pipeline.


@pytest.fixture
def data(tmp_path):
    write_vocdevkit(tmp_path, {"2012": {"train": make_scenes(5, size=(24, 32))}})
    return voc_segmentation(tmp_path, splits=("train",))


VIEW = SegmentationView(scale=(32, 24), crop_size=16)


def batches(data, count, **arguments):
    dataset = VIEW.dataset(data, **({"batch_size": 2, "seed": 0} | arguments))
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def assert_same(first, second):
    for (images, masks), (other_images, other_masks) in zip(first, second, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(masks, other_masks)


def test_batches_are_images_in_0_to_1_and_masks(data):
    ((images, masks),) = batches(data, 1)
    assert images.shape == (2, 16, 16, 3)
    assert images.dtype == np.float32
    assert 0.0 <= images.min() < 0.4 < images.max() <= 1.0
    assert masks.shape == (2, 16, 16)
    assert masks.dtype == np.uint8
    assert set(np.unique(masks)) <= {0, 1, 2, 3, 255}


def test_dataset_is_a_function_of_the_seed(data):
    first = batches(data, 4)
    assert_same(first, batches(data, 4))
    assert not np.array_equal(first[0][0], batches(data, 1, seed=1)[0][0])


def test_dataset_continues_after_an_earlier_process(data):
    assert_same(batches(data, 6)[4:], batches(data, 2, start=8))


def test_a_pass_has_every_image_once(data):
    view = SegmentationView(
        scale=(32, 24), ratios=(1.0, 1.0), crop_size=32, flip_rate=0.0, brightness=0.0,
        contrast=(1.0, 1.0), saturation=(1.0, 1.0), hue=0,
    )  # fmt: skip
    dataset = view.dataset(data, batch_size=5, seed=0)
    passes = [
        sorted(mask.tobytes() for mask in masks)
        for _, masks in itertools.islice(dataset.as_numpy_iterator(), 2)
    ]
    assert len(set(passes[0])) == 5
    assert passes[0] == passes[1]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale", (0, 512)),
        ("ratios", (-1.0, 2.0)),
        ("crop_size", 0),
        ("max_class_share", 75),
        ("crop_retries", -1),
    ],
)
def test_wrong_number_is_one_line(name, value):
    with pytest.raises(ValueError, match=rf"SegmentationView\.{name} must be .*Rec"):
        SegmentationView(**{name: value})
