"""A recipe's preview measures its operations, and fails where one does nothing."""

import functools
import io
import json

import numpy as np
import pytest
from rich.console import Console

from byol_keras import data
from byol_keras.externals import AUGMENTATIONS
from byol_keras.preview import __main__ as preview
from byol_keras.views import TwoViews
from byol_keras.views.augmentations import RandomApply, RandomHorizontalFlip
from byol_keras.views.blurs import GaussianBlur
from byol_keras.views.colors import ColorJitter, Grayscale, Solarize
from byol_keras.views.crops import RandomResizedCrop

from support.processes import command_line

LAYERS = (
    RandomResizedCrop(size=16, semantics="torchvision"),
    RandomHorizontalFlip(),
    RandomApply(ColorJitter(), rate=0.8),
    RandomApply(Grayscale(), rate=0.2),
    RandomApply(GaussianBlur(sigma=(0.1, 1.0)), rate=0.5),
)


def colour(count=80):
    rng = np.random.default_rng(0)
    return data.arrays(rng.integers(0, 256, (count, 24, 20, 3), dtype=np.uint8))


def previewed(view1=LAYERS, view2=(*LAYERS, RandomApply(Solarize(), rate=0.2)), **more):
    settings = {"images": 64, "rows": 3, "dataset_fn": colour, "seed": 5} | more
    place = settings.pop("place", "host")
    views = TwoViews([*view1], [*view2], place=place)
    return preview.preview(views_fn=lambda: views, **settings)


@pytest.mark.parametrize("place", ["host", "device"])
def test_operations_that_work_give_no_finding(place):
    name, found = previewed(place=place)
    assert name == "arrays of shape (80, 24, 20, 3)"
    assert found.findings == []
    assert len(found.effects) == 11
    assert found.numbers["agreement"] == {"view1": 1.0, "view2": 1.0}
    numbers = found.numbers["independence"]
    assert numbers["images_with_draws_of_their_own"] == numbers["images"] == 64
    assert numbers["images_with_equal_views"] == 0


def test_samples_are_the_views_that_the_run_trains_on():
    _, found = previewed()
    views = TwoViews([*LAYERS], [*LAYERS, RandomApply(Solarize(), rate=0.2)])
    view1, view2 = next(iter(views.dataset(colour(), 64, seed=5)))
    assert len(found.samples) == 3
    for place, sample in enumerate(found.samples):
        np.testing.assert_array_equal(sample.views["view1"], view1[place])
        np.testing.assert_array_equal(sample.views["view2"], view2[place])
        assert sample.told["view1"][0].startswith("crop ")


def test_box_on_the_original_is_where_the_view_comes_from():
    ramp = np.zeros((40, 40, 40, 1), np.uint8)
    ramp[:] = np.arange(40)[:, None, None] * 5
    layers = [RandomResizedCrop(size=20, area=(0.1, 0.3))]
    _, found = previewed(layers, layers, dataset_fn=lambda: data.arrays(ramp), images=4)
    for sample in found.samples:
        top, _, height, _ = sample.boxes["view1"]
        rows = 255 * sample.views["view1"][:, 0, 0] / 5
        assert rows.mean() == pytest.approx(40 * (top + height / 2) - 0.5, abs=0.2)


def test_operation_without_effect_is_a_finding():
    grey = data.arrays(
        np.random.default_rng(0).integers(0, 256, (80, 20, 20), np.uint8)
    )
    _, found = previewed(dataset_fn=lambda: grey)
    assert found.findings == [
        "view1: Grayscale changes no image",
        "view2: Grayscale changes no image",
    ]


def test_views_that_are_equal_are_a_finding():
    layers = [RandomResizedCrop(size=8, area=(1.0, 1.0), aspect_ratio=(1.0, 1.0))]
    rng = np.random.default_rng(0)
    square = data.arrays(rng.integers(0, 256, (64, 20, 20), np.uint8))
    _, found = previewed(layers, layers, dataset_fn=lambda: square)
    assert "the two views of most images are equal" in found.findings


def test_layers_that_draw_for_themselves_are_measured_too():
    import keras_cv

    assert "RandomHue" in AUGMENTATIONS
    layers = [*LAYERS, keras_cv.layers.RandomHue(0.5, value_range=(0, 1))]
    _, found = previewed(layers, LAYERS)
    assert found.numbers["agreement"] is None
    (hue,) = [e for e in found.effects if e.name == "RandomHue"]
    assert 40 < hue.changed <= hue.changeable <= 64
    assert (hue.least, hue.most, hue.finding) == (0.0, 1.0, None)


def test_views_of_stock_layers_alone_have_no_draws_to_be_shared():
    import keras_cv

    layers = [keras_cv.layers.RandomHue(0.5, value_range=(0, 1))]
    _, found = previewed(layers, layers)
    assert found.findings == []


def test_findings_on_values_and_draws():
    numbers = {
        "value_range": {"view1": {"finite": True, "least": -0.1, "most": 1.0}},
        "independence": {
            "images": 9,
            "images_with_draws_of_their_own": 8,
            "images_with_equal_views": 0,
        },
        "agreement": {"view1": 0.9},
    }
    assert [*preview._flaws(numbers)] == [
        "view1: values must be finite and in 0..1. Received: -0.1 to 1.0",
        "images of one batch share draws",
        "view1: the input pipeline differs from the layers",
    ]


def test_large_originals_are_shown_small():
    large = data.arrays(np.zeros((4, 600, 300, 3), np.uint8))
    _, found = previewed(dataset_fn=lambda: large, images=4)
    assert found.samples[0].image.shape == (256, 128, 3)


def test_report_names_every_operation_and_number():
    _, found = previewed()
    console = Console(record=True, width=120, file=io.StringIO())
    preview.print_report(found, console)
    text = console.export_text()
    for word in (
        "Solarize",
        "0.800",
        "view2: values 0.000 to 1.000",
        "64 of 64 images",
    ):
        assert word in text


run = functools.partial(command_line, "preview")


QUICKSTART = "--gin_file=gin/pretrain/quickstart.gin"


def test_command_line_writes_picture_and_numbers(tmp_path):
    pytest.importorskip("matplotlib")
    done = run(
        QUICKSTART,
        f"--out={tmp_path / 'sheet.png'}",
        f"--json={tmp_path / 'numbers.json'}",
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "sheet.png").stat().st_size > 10_000
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    names = [operation["name"] for operation in numbers["operations"]]
    assert names == ["RandomResizedCrop", "ColorJitter"] * 2
    assert numbers["findings"] == []
    assert "ColorJitter" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, code, message",
    [
        ((QUICKSTART,), 2, "--out must name a PNG file. Received: none"),
        ((QUICKSTART, "--gin_param=ColorJitter.brigth=1"), 2, "nearest: brightness"),
        (
            (
                QUICKSTART,
                "--gin_param=ColorJitter.contrast=0.0",
                "--gin_param=ColorJitter.brightness=0.0",
            ),
            1,
            "view1: ColorJitter changes no image",
        ),
    ],
)
def test_command_line_ends_with_one_line(arguments, code, message, tmp_path):
    pytest.importorskip("matplotlib")
    out = () if "--out" in message else (f"--out={tmp_path / 'sheet.png'}",)
    done = run(*arguments, *out)
    assert done.returncode == code, done.stderr
    assert "error: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
