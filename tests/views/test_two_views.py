"""Two views per image: independent draws, any batch, any place, exact resume."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.backbones import resnet18
from byol_keras.byol import BYOL
from byol_keras.callbacks import TargetEMA
from byol_keras.views import TwoViews, augmented_view
from byol_keras.views.augmentations import RandomApply, RandomHorizontalFlip
from byol_keras.views.colors import ColorJitter, Solarize
from byol_keras.views.crops import RandomResizedCrop
from byol_keras.views.pipeline import uniforms_of

keras_cv = pytest.importorskip("keras_cv")

BATCH = 4


def make_images(number=12, size=16, channels=3):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (number, 4, 4, channels), np.uint8)
    return coarse.repeat(size // 4, axis=1).repeat(size // 4, axis=2)


def make_views(size=8):
    def layers(*more):
        jitter = RandomApply(ColorJitter(), rate=0.8)
        return [RandomResizedCrop(size), RandomHorizontalFlip(), jitter, *more]

    return TwoViews(layers(), layers(RandomApply(Solarize(), rate=0.5)))


def take(dataset, number):
    return [tuple(view.numpy() for view in pair) for pair in dataset.take(number)]


def assert_same(first, second):
    for pair1, pair2 in zip(first, second, strict=True):
        for view1, view2 in zip(pair1, pair2, strict=True):
            np.testing.assert_array_equal(view1, view2)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_views_are_float32_in_0_to_1_of_the_crops_size(channels):
    source = data.arrays(make_images(channels=channels))
    for view in take(make_views().dataset(source, BATCH, seed=0), 1)[0]:
        assert view.shape == (BATCH, 8, 8, channels)
        assert view.dtype == np.float32
        assert view.min() >= 0.0
        assert view.max() <= 1.0


def test_the_two_views_of_an_image_differ():
    view1, view2 = take(make_views().dataset(data.arrays(make_images()), 4, seed=0), 1)[
        0
    ]
    differs = np.abs(view1 - view2).max(axis=(1, 2, 3)) > 0.01
    assert differs.all()


def test_each_image_of_a_batch_has_its_own_draw():
    image = make_images(number=1)
    source = data.arrays(np.repeat(image, 12, axis=0))
    view1, _ = take(make_views().dataset(source, 12, seed=0), 1)[0]
    assert len(np.unique(view1.reshape(12, -1).round(4), axis=0)) == 12


def test_same_seed_gives_the_same_views_and_another_seed_others():
    source = data.arrays(make_images())
    first = take(make_views().dataset(source, BATCH, seed=3), 4)
    assert_same(first, take(make_views().dataset(source, BATCH, seed=3), 4))
    other = take(make_views().dataset(source, BATCH, seed=4), 4)
    assert np.abs(first[0][0] - other[0][0]).max() > 0.01


def test_views_change_from_pass_to_pass():
    source = data.arrays(make_images(number=4))
    (first, _), (second, _) = take(make_views().dataset(source, 4, seed=0), 2)
    assert np.abs(np.sort(first, axis=0) - np.sort(second, axis=0)).max() > 0.01


@pytest.mark.parametrize("start", [4, 12, 20])
def test_dataset_continues_exactly_where_another_stopped(start):
    source = data.arrays(make_images())
    whole = take(make_views().dataset(source, BATCH, seed=0), 8)
    rest = take(make_views().dataset(source, BATCH, seed=0, start=start), 2)
    assert_same(whole[start // BATCH :][:2], rest)


def write_jpegs(folder):
    for number, image in enumerate(make_images(number=6, size=32)):
        crop = image[: 32 - number, : 20 + number]
        encoded = tf.io.encode_jpeg(crop, quality=95)
        (folder / f"{number}.jpg").write_bytes(encoded.numpy())


def test_images_of_different_sizes_are_cropped_separately(tmp_path):
    write_jpegs(tmp_path)
    source = data.image_folder(tmp_path)
    views = make_views()
    (view1, view2) = take(views.dataset(source, BATCH, seed=0), 1)[0]
    expected = [
        views(
            source.decode(element["image"])[None],
            uniforms_of(element, 0, views.draws)[None],
        )
        for element in source.stream(0).take(BATCH)
    ]
    for place, (first, second) in enumerate(expected):
        # tf.image's bicubic reads its kernel from a table of 1024 entries.
        np.testing.assert_allclose(view1[place], first[0], atol=4e-3)
        np.testing.assert_allclose(view2[place], second[0], atol=4e-3)


@pytest.mark.parametrize("short_side", [None, 16])
def test_views_of_files_are_those_of_the_same_arrays(short_side, tmp_path):
    images = make_images()
    for number, image in enumerate(images):
        encoded = tf.io.encode_png(image).numpy()
        (tmp_path / f"{number:02}.png").write_bytes(encoded)
    of_files = data.image_folder(tmp_path, short_side=short_side)
    found, expected = (
        take(make_views().dataset(source, BATCH, seed=3), 4)
        for source in (of_files, data.arrays(images))
    )
    assert_same(found, expected)


@pytest.mark.parametrize("packed_bytes", [0, 2**30])
def test_views_made_singly_and_in_batches_are_the_same_bits(
    packed_bytes, tmp_path, monkeypatch
):
    write_jpegs(tmp_path)
    source = data.image_folder(tmp_path)
    expected = take(make_views().dataset(source, batch_size=4, seed=2), 3)
    monkeypatch.setattr(augmented_view, "_PACKED_BYTES", packed_bytes)
    assert_same(take(make_views().dataset(source, batch_size=4, seed=2), 3), expected)


def test_separate_cropping_can_be_resumed(tmp_path):
    write_jpegs(tmp_path)
    source = data.image_folder(tmp_path)
    whole = take(make_views().dataset(source, 2, seed=0), 5)
    assert_same(whole[3:], take(make_views().dataset(source, 2, seed=0, start=6), 2))


def test_images_of_different_sizes_need_a_crop_first(tmp_path):
    write_jpegs(tmp_path)
    views = TwoViews([Solarize()], [RandomResizedCrop(8)])
    with pytest.raises(ValueError, match=r"view1 must begin with RandomResizedCrop"):
        views.dataset(data.image_folder(tmp_path), 2, seed=0)


def test_views_of_different_size_are_refused():
    views = TwoViews([RandomResizedCrop(8)], [RandomResizedCrop(6)])
    with pytest.raises(ValueError, match=r"same size.*\(8, 8, 3\) and \(6, 6, 3\)"):
        views.dataset(data.arrays(make_images()), 2, seed=0)


@pytest.mark.parametrize("layers", [[], ["flip"], None])
def test_a_view_must_be_a_list_of_layers(layers):
    with pytest.raises(ValueError, match="view2 must be a non-empty list of layers"):
        TwoViews([RandomResizedCrop(8)], layers)


def test_stock_layers_are_allowed_and_not_stateless():
    stock = keras_cv.layers.RandomContrast(value_range=(0, 1), factor=0.5)
    views = TwoViews([RandomResizedCrop(8), stock], [RandomResizedCrop(8)])
    assert not views.stateless
    assert make_views().stateless
    view1, _ = take(views.dataset(data.arrays(make_images()), BATCH, seed=0), 1)[0]
    assert view1.shape == (BATCH, 8, 8, 3)
    assert view1.min() >= 0.0
    assert view1.max() <= 1.0


def device_views(**options):
    layers = make_views()
    return TwoViews(layers.view1.layers, layers.view2.layers, **options)


@pytest.mark.parametrize("compiled", [False, True])
def test_views_on_the_device_are_those_on_the_host(compiled):
    source = data.arrays(make_images())
    on_host = take(device_views().dataset(source, BATCH, seed=0), 3)
    views = device_views(place="device")
    make = tf.function(views.on_device, jit_compile=compiled)
    parts = views.dataset(source, BATCH, seed=0).take(3)
    on_device = [tuple(view.numpy() for view in make(*part)) for part in parts]
    for first, second in zip(on_host, on_device, strict=True):
        for host, device in zip(first, second, strict=True):
            np.testing.assert_allclose(host, device, atol=2 / 255)


def test_crops_of_images_of_any_size_are_augmented_on_the_device(tmp_path):
    write_jpegs(tmp_path)
    source = data.image_folder(tmp_path)
    on_host = take(device_views().dataset(source, BATCH, seed=0), 2)
    views = device_views(place="device")
    parts = views.dataset(source, BATCH, seed=0).take(2)
    for first, part in zip(on_host, parts, strict=True):
        for host, device in zip(first, views.on_device(*part), strict=True):
            np.testing.assert_allclose(host, device, atol=2 / 255)


def test_layers_that_draw_for_themselves_must_stay_on_the_host():
    stock = [RandomResizedCrop(8), keras_cv.layers.RandomFlip()]
    with pytest.raises(ValueError, match="place must be 'host'"):
        TwoViews(stock, stock, place="device")
    with pytest.raises(ValueError, match="place must be one of"):
        device_views(place="gpu")


def test_views_of_different_size_are_refused_on_the_device_too():
    views = TwoViews([RandomResizedCrop(8)], [RandomResizedCrop(9)], place="device")
    with pytest.raises(ValueError, match="same size"):
        views.dataset(data.arrays(make_images()), BATCH, seed=0)


def trained_weights(views, source):
    keras.utils.set_random_seed(0)
    model = BYOL(resnet18(width=0.0625, stem="small"), 16, 8)
    model.augment = views.on_device if views.place == "device" else None
    model.compile(keras.optimizers.SGD(0.01))
    ema = TargetEMA(base_tau=0.9, total_steps=1)
    dataset = views.dataset(source, BATCH, seed=0)
    model.fit(dataset, steps_per_epoch=1, callbacks=[ema], verbose=0)
    return model.get_weights()


@pytest.mark.slow
def test_training_is_the_same_with_views_on_host_and_device():
    source = data.arrays(make_images())
    on_host = trained_weights(device_views(), source)
    on_device = trained_weights(device_views(place="device"), source)
    for host, device in zip(on_host, on_device, strict=True):
        np.testing.assert_allclose(host, device, atol=1e-3)
