"""Views must fit each other and the images; every mistake is a line of its own."""

import gin
import pytest

from byol_keras import train  # noqa: F401, registers what the recipes bind
from byol_keras.config import parse
from byol_keras.data import ImageData
from byol_keras.runtime.errors import Mistakes
from byol_keras.views import TwoViews, checks
from byol_keras.views.augmentations import RandomApply, RandomHorizontalFlip
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.crops import RandomCrop, RandomResizedCrop

from support import ROOT
from support.runs import FASHION_MNIST

RESNET50 = ROOT / "gin/pretrain/image_folder_resnet50.gin"


def images_of(image_size, channels):
    return ImageData("data", 10, channels, image_size, None, None)


def views(*bindings, gin_file=FASHION_MNIST):
    gin.clear_config()
    parse.parse_gin([str(gin_file)], list(bindings))
    return gin.get_bindings("train")["views_fn"]()


@pytest.mark.parametrize(
    ("bindings", "image_size", "expected"),
    [
        (
            ("RandomResizedCrop.size = 256",),
            (28, 28),
            "view1 must be at most 8 times the images of (28, 28). Received: (256, ",
        ),
        (
            ("TwoViews.view1 = [@RandomCrop()]", "RandomCrop.size = 30"),
            (28, 28),
            "RandomCrop.size must be within images of (28, 28). Received: (30, 30)",
        ),
        (
            ("TwoViews.view1 = [@GaussianBlur()]", "GaussianBlur.radius = 16"),
            (32, 32),
            "GaussianBlur.radius must give a kernel of 2 * radius + 1 pixels within ",
        ),
        (
            ("TwoViews.view1 = [@GaussianBlur()]",),
            None,
            "view1 must begin with RandomResizedCrop for images of different sizes.",
        ),
    ],
)
def test_views_must_suit_the_images(bindings, image_size, expected):
    with pytest.raises(ValueError) as error:
        checks.check_data(views(*bindings), images_of(image_size, 3))
    assert str(error.value).splitlines()[0].startswith(expected)


@pytest.mark.parametrize(
    ("channels", "expected"),
    [
        (3, []),
        (
            1,
            [
                "Grayscale does nothing to images of 1 channel",
                "ColorJitter.saturation and ColorJitter.hue do nothing to images of 1 "
                "channels",
            ],
        ),
        (
            4,
            [
                "ColorJitter.saturation and ColorJitter.hue do nothing to images of 4 "
                "channels"
            ],
        ),
    ],
)
def test_layers_without_effect_on_the_channels_cause_warnings(
    channels, expected, caplog
):
    with caplog.at_level("WARNING", logger="byol_keras"):
        checks.check_data(views(gin_file=RESNET50), images_of(None, channels))
    assert caplog.messages == expected


def test_functions_without_known_layers_are_not_checked():
    checks.check_data(lambda images: images, images_of((8, 8), 3))


def test_views_of_two_sizes_are_a_mistake():
    two_views = TwoViews([RandomResizedCrop(size=32)], [RandomResizedCrop(size=24)])
    (line,) = checks.view_mistakes(two_views)
    assert line.startswith("view1 and view2 must have the same size. Received: ")


def test_a_blur_wider_than_its_view_is_a_mistake_also_within_random_apply():
    blur = RandomApply(GaussianBlur(radius=8), rate=0.5)
    layers = [RandomResizedCrop(size=16)]
    (line,) = checks.view_mistakes(TwoViews([*layers, blur], layers))
    assert line.endswith("within view1 of (16, 16). Received: 8")


@pytest.mark.parametrize("size", [2048, 2049])
def test_views_are_at_most_2048_pixels_wide(size):
    layers = [RandomResizedCrop(size=(8, size))]
    lines = checks.view_mistakes(TwoViews(layers, layers))
    assert len(lines) == (0 if size == 2048 else 2)


def test_views_that_fit_have_no_mistakes():
    layers = [RandomResizedCrop(size=32), RandomHorizontalFlip()]
    assert checks.view_mistakes(TwoViews(layers, layers)) == []
    checks.check_data(TwoViews(layers, layers), images_of((32, 32), 3))


def test_all_mistakes_are_reported_together():
    blurred = [GaussianBlur(radius=16)]
    two_views = TwoViews([RandomCrop(size=30)], blurred)
    with pytest.raises(Mistakes) as error:
        checks.check_data(two_views, images_of((28, 28), 3))
    assert [line.split(" ")[0] for line in error.value.lines] == [
        "RandomCrop.size",
        "GaussianBlur.radius",
    ]
