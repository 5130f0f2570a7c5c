"""Facts and shares have known values on images and features that are made for it."""

import numpy as np
import pytest

from byol_keras.monitoring import shortcuts
from byol_keras.monitoring.shortcuts import (
    ShortcutReader,
    file_facts,
    image_facts,
    predicted_share,
    residual_products,
    surviving_share,
)

COUNT = 96
RNG = np.random.default_rng(0)


def flat(values, side=8):
    """Images of one color each, from `[N, C]`."""
    values = np.asarray(values, np.float32)
    return np.broadcast_to(
        values[:, None, None], (len(values), side, side, values.shape[1])
    )


def noisy(seed=0, side=16, channels=3):
    """Images that differ in mean color and, independently of it, in contrast."""
    rng = np.random.default_rng(seed)
    color = rng.uniform(0.4, 0.6, (COUNT, 1, 1, channels))
    contrast = rng.uniform(0.02, 0.1, (COUNT, 1, 1, 1))
    noise = contrast * rng.standard_normal((COUNT, side, side, 1))
    # So that contrast changes no mean.
    noise -= noise.mean(axis=(1, 2), keepdims=True)
    return np.clip(color + noise, 0.0, 1.0).astype(np.float32)


IMAGES = noisy()


# --- Facts ----------------------------------------------------------------------------


def test_facts_of_flat_images_are_their_color():
    facts = image_facts(flat([[0.25, 0.5, 0.75], [1.0, 0.0, 0.5]]))
    np.testing.assert_allclose(facts["color"], [[0.25, 0.5, 0.75], [1.0, 0.0, 0.5]])
    np.testing.assert_allclose(facts["border"], np.tile(facts["color"], 4))
    np.testing.assert_allclose(facts["thumbnail"], np.tile(facts["color"], 16))
    np.testing.assert_allclose(facts["contrast"], 0.0, atol=1e-7)
    np.testing.assert_allclose(facts["blur"], np.log(1e-3), atol=1e-3)


@pytest.mark.parametrize(
    ("channels", "name"), [(1, "brightness"), (2, "color"), (5, "color")]
)
def test_images_of_any_number_of_channels_have_facts(channels, name):
    facts = image_facts(np.full((2, 9, 8, channels), 0.5, np.float32))
    assert [*facts] == [name, "contrast", "blur", "border", "thumbnail"]
    widths = [facts[x].shape for x in (name, "contrast", "border", "thumbnail")]
    assert widths == [(2, c) for c in (channels, 1, 4 * channels, 16 * channels)]


def test_contrast_of_half_black_and_half_white_is_a_half():
    image = np.zeros((1, 8, 8, 3), np.float32)
    image[:, :, 4:] = 1.0
    np.testing.assert_allclose(image_facts(image)["contrast"], 0.5)


def test_luma_weights_green_most():
    grey = shortcuts.luma(np.eye(3)[None, None])
    np.testing.assert_allclose(grey, [[[0.299, 0.587, 0.114]]])
    np.testing.assert_allclose(shortcuts.luma(np.eye(2)[None, None]), 0.5)


def test_laplacian_of_one_bright_pixel():
    grey = np.zeros((1, 5, 5))
    grey[0, 2, 2] = 1.0
    expected = [[0.0, -1.0, 0.0], [-1.0, 4.0, -1.0], [0.0, -1.0, 0.0]]
    np.testing.assert_array_equal(shortcuts.laplacian(grey)[0], expected)


def test_blurred_image_has_lower_blur_value_than_sharp_one():
    sharp = RNG.random((1, 16, 16, 1)).astype(np.float32)
    soft = (sharp + np.roll(sharp, 1, 1) + np.roll(sharp, 1, 2)) / 3.0
    assert image_facts(soft)["blur"] < image_facts(sharp)["blur"] - 0.3


def test_border_has_the_color_of_each_side():
    image = np.zeros((1, 16, 8, 1))
    image[:, :2], image[:, -2:] = 1.0, 0.5  # 16 // 8 rows
    top, bottom, left, right = shortcuts.border(image)[0]
    assert (top, bottom) == (1.0, 0.5)
    assert left == right == pytest.approx((2 * 1.0 + 2 * 0.5) / 16)


def test_thumbnail_has_the_mean_of_each_cell_row_by_row():
    cells = np.arange(16.0).reshape(4, 4)
    image = np.kron(cells, np.ones((3, 2)))[None, :, :, None]
    np.testing.assert_allclose(shortcuts.thumbnail(image)[0], np.arange(16.0))


def test_facts_do_not_depend_on_the_block_size(monkeypatch):
    whole = image_facts(IMAGES)
    monkeypatch.setattr(shortcuts, "_BLOCK", 7)
    for name, facts in image_facts(IMAGES).items():
        np.testing.assert_array_equal(facts, whole[name])


def test_facts_of_files_are_the_logarithms_that_differ():
    files = [[100, 80, 1000], [100, 40, 4000], [100, 80, 1000]]
    np.testing.assert_allclose(file_facts(files), np.log(np.array(files)[:, 1:]))
    assert file_facts([[64, 64, 900]] * 3) is None


# --- Shares ---------------------------------------------------------------------------


def share(facts, targets):
    return predicted_share(residual_products(facts), targets)


def test_linear_function_of_a_fact_is_predicted_entirely():
    fact = RNG.random((COUNT, 3))
    assert share(fact, fact @ RNG.random((3, 20)) + 5.0) > 0.999


def test_half_fact_and_half_noise_is_predicted_to_a_half():
    fact, noise = RNG.standard_normal((2, 1000, 4))
    assert share(fact, np.hstack([fact, noise])) == pytest.approx(0.5, abs=0.02)


def test_noise_is_not_predicted_even_by_many_facts():
    assert share(RNG.random((COUNT, 60)), RNG.random((COUNT, 30))) < 0.01


def test_constant_fact_predicts_nothing_and_constant_target_is_not_predicted():
    fact = RNG.random((COUNT, 2))
    assert share(np.full((COUNT, 2), 0.1), fact) == 0.0
    assert share(fact, np.full((COUNT, 4), 0.1)) == 0.0


def test_share_is_that_of_ridge_regression_fold_by_fold():
    facts, noise = RNG.random((COUNT, 5)), RNG.standard_normal((COUNT, 3))
    targets = facts[:, :3] + 0.3 * noise
    total, errors = 0.0, np.zeros(len(shortcuts.ALPHAS))
    for fold in range(shortcuts.FOLDS):
        new = np.arange(COUNT) % shortcuts.FOLDS == fold
        mean, std = facts[~new].mean(axis=0), facts[~new].std(axis=0)
        known, held_out = (facts[~new] - mean) / std, (facts[new] - mean) / std
        center = targets[~new].mean(axis=0)
        total += np.sum((targets[new] - center) ** 2)
        for place, alpha in enumerate(shortcuts.ALPHAS):
            gram = known.T @ known + alpha * np.eye(5)
            slopes = np.linalg.solve(gram, known.T @ (targets[~new] - center))
            errors[place] += np.sum((targets[new] - center - held_out @ slopes) ** 2)
    expected = 1.0 - errors.min() / total
    assert 0.1 < expected < 0.9
    assert share(facts, targets) == pytest.approx(expected, rel=1e-9)


def test_fact_survives_in_equal_views_and_not_in_views_without_it():
    fact = RNG.random((COUNT, 3))
    assert surviving_share(fact, fact) > 0.999
    assert surviving_share(fact, RNG.random((COUNT, 3))) < 0.02
    assert surviving_share(fact, np.ones((COUNT, 3))) == 0.0
    # Each column counts equally, whatever its scale.
    half = np.stack([fact[:, 0], 1e3 * RNG.random(COUNT)], axis=1)
    assert surviving_share(fact, half) == pytest.approx(0.5, abs=0.05)


# --- Readings -------------------------------------------------------------------------


def read(features, images=IMAGES, **arguments):
    reader = ShortcutReader(images, (images, images), **arguments)
    return reader.read(features)


def test_features_that_are_the_mean_color_are_predicted_by_color_only():
    # A large constant makes the vectors about equally long.
    features = np.hstack([np.full((COUNT, 1), 10.0), image_facts(IMAGES)["color"]])
    found = read(features)
    assert found["shortcut/color"] > 0.99
    assert found["shortcut/thumbnail"] > 0.95
    assert found["shortcut/contrast"] < 0.03
    assert found["shortcut/blur"] < 0.03
    assert found["shortcut/all"] > 0.95


def test_random_features_are_not_predicted():
    found = read(RNG.standard_normal((COUNT, 64)))
    assert max(found.values()) < 0.01


def test_length_of_features_does_not_count():
    features = RNG.standard_normal((COUNT, 8)) + 3.0
    scaled = features * np.exp(RNG.standard_normal((COUNT, 1)))
    assert read(scaled) == pytest.approx(read(features), abs=1e-9)


def test_file_facts_are_read_where_they_differ():
    size = RNG.integers(1000, 9000, COUNT)
    files = np.stack([np.full(COUNT, 64), np.full(COUNT, 64), size], axis=1)
    features = np.stack([np.log(size), np.full(COUNT, 90.0)], axis=1)
    assert read(features, files=files)["shortcut/file"] > 0.99
    files[:, 2] = 5000
    assert "shortcut/file" not in read(features, files=files)


def test_only_brightness_survives_in_grey_views_of_the_same_color():
    view1 = noisy()
    grey = view1.mean(axis=(1, 2, 3), keepdims=True) + 0.0 * view1
    both = ShortcutReader(view1, (view1, view1)).survival
    assert min(both.values()) > 0.95
    of_grey = ShortcutReader(view1, (view1, grey)).survival
    assert of_grey["color"] > 0.95  # the three means are predicted by their mean
    assert of_grey["contrast"] == 0.0
    other = ShortcutReader(view1, (view1, noisy(seed=1))).survival
    assert max(other.values()) < 0.05


@pytest.mark.parametrize("shape", [(31, 8, 8, 3), (32, 8, 7, 3)])
@pytest.mark.parametrize("name", ["images", "view1"])
def test_too_few_or_too_small_images_are_refused(shape, name):
    wrong, right = np.zeros(shape), IMAGES
    images, view = (wrong, right) if name == "images" else (right, wrong)
    with pytest.raises(ValueError, match=rf"{name} must have at least 32 images"):
        ShortcutReader(images, (view, view))
