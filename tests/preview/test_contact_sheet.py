"""The contact sheet holds every row, and shows any number of channels."""

import importlib.util

import numpy as np
import pytest

from byol_keras.preview import contact_sheet
from byol_keras.preview.effects import Effect

pytest.importorskip("matplotlib")
Image = pytest.importorskip("PIL.Image")


def sample(channels=3):
    image = np.full((20, 30, channels), 0.5, np.float32)
    views = {name: image[:16, :16] for name in ("view1", "view2")}
    captions = {"view1": ["crop 34 %", "hue +0.10, contrast -0.20"], "view2": []}
    return contact_sheet.Sample(image, views, captions, {"view1": (0.1, 0.2, 0.5, 0.5)})


EFFECTS = [
    Effect("view1", "ColorJitter", 0.8, 100, 100, 79, 0.6, 0.95, None),
    Effect("view2", "Grayscale", 0.2, 100, 0, 0, 0.0, 0.0, "changes no image"),
]


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_sheet_grows_with_its_rows(channels, tmp_path):
    heights = []
    for rows in (1, 3):
        path = tmp_path / f"{rows}.png"
        contact_sheet.plot_contact_sheet(
            [sample(channels)] * rows, EFFECTS, "title", path
        )
        heights.append(Image.open(path).height)
    assert heights[1] - heights[0] == pytest.approx(2 * 1.75 * 90, abs=2)


def test_sheet_holds_the_pixels_of_the_images(tmp_path):
    green = np.zeros((16, 16, 3), np.float32)
    green[..., 1] = 1.0
    row = contact_sheet.Sample(green, {"view1": green, "view2": green}, {}, {})
    row = row._replace(captions={"view1": [], "view2": []})
    contact_sheet.plot_contact_sheet([row], EFFECTS, "title", tmp_path / "sheet.png")
    pixels = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    is_green = (pixels == (0, 255, 0)).all(axis=-1)
    assert is_green.sum() > 3 * 80 * 80


def test_many_channels_are_shown_by_the_first_three_and_two_by_the_first():
    image = np.arange(5, dtype=np.float32)[None, None] / 4
    assert contact_sheet.displayed(image)[0, 0].tolist() == [0.0, 0.25, 0.5]
    assert contact_sheet.displayed(image[..., 1:3])[0, 0].tolist() == [0.25] * 3


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install \"byol_keras\[report\]\""):
        contact_sheet.require_matplotlib()
