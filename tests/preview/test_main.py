"""The preview command prints and plots what it measures, and fails on findings."""

import functools
import io
import json

import numpy as np
import pytest
from rich.console import Console

from byol_keras import data
from byol_keras.preview import __main__ as preview
from byol_keras.preview.inspection import inspect_views
from byol_keras.views import TwoViews
from byol_keras.views.augmentations import RandomApply
from byol_keras.views.colors import ColorJitter, Solarize

from support.processes import command_line

run = functools.partial(command_line, "preview")
FASHION_MNIST = "--gin_file=gin/pretrain/fashion_mnist_small_resnet18.gin"


def test_report_names_every_operation_and_number():
    view = [ColorJitter(), RandomApply(Solarize(), rate=0.2)]
    rng = np.random.default_rng(0)
    images = data.arrays(rng.integers(0, 256, (64, 16, 16, 3), dtype=np.uint8))
    found = inspect_views(images, TwoViews(view, view), seed=0, images=64, rows=3)
    console = Console(record=True, width=120, file=io.StringIO())
    preview.print_report(found, console)
    text = console.export_text()
    for word in (
        "Solarize",
        "0.200",
        "view2: values 0.000 to 1.000",
        "images with their own draws: 64 of 64",
    ):
        assert word in text


def test_command_line_writes_picture_and_numbers(tmp_path):
    pytest.importorskip("matplotlib")
    done = run(
        FASHION_MNIST,
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
        ((FASHION_MNIST,), 2, "--out must name a PNG file. Received: none"),
        ((FASHION_MNIST, "--gin_param=ColorJitter.brigth=1"), 2, "nearest: brightness"),
        (
            (
                FASHION_MNIST,
                "--gin_param=ColorJitter.contrast=0.0",
                "--gin_param=ColorJitter.brightness=0.0",
            ),
            1,
            "view1: ColorJitter changes no image",
        ),
    ],
)
def test_mistake_or_finding_is_one_line(arguments, code, message, tmp_path):
    pytest.importorskip("matplotlib")
    out = () if "--out" in message else (f"--out={tmp_path / 'sheet.png'}",)
    done = run(*arguments, *out)
    assert done.returncode == code, done.stderr
    assert "error: " in done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
