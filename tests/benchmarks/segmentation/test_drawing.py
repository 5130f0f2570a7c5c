"""Pictures of mask and prediction in VOC's colors, with their legend."""

import numpy as np
from PIL import Image

from byol_keras.benchmarks.segmentation.drawing import draw_segmentation, voc_palette


def stripes(height=9, width=14):
    """An image, and the channel that is the brightest in each of its columns."""
    mask = np.broadcast_to(np.arange(width) // 3 % 3, (height, width))
    return np.eye(3, dtype=np.uint8)[mask] * 255, mask.astype(np.uint8)


def test_palette_is_that_of_voc():
    palette = voc_palette()
    assert palette[0].tolist() == [0, 0, 0]
    assert palette[1].tolist() == [128, 0, 0]
    assert palette[6].tolist() == [0, 128, 128]
    assert palette[15].tolist() == [192, 128, 128]
    assert palette[20].tolist() == [0, 64, 128]
    assert palette[255].tolist() == [224, 224, 192]


def test_picture_is_image_mask_and_prediction_side_by_side(tmp_path):
    image, mask = stripes()
    mask[0, 0], prediction = 255, np.ones_like(mask)
    path = tmp_path / "new" / "picture.png"
    draw_segmentation(image, mask, prediction, "abcdefghijklmnopqrstu", path)
    with Image.open(path) as file:
        found = np.asarray(file)
    assert found.shape[1:] == (3 * 14 + 2 * 4, 3)
    np.testing.assert_array_equal(found[:9, :14], image)
    np.testing.assert_array_equal(found[:9, 18:32], voc_palette()[mask])
    np.testing.assert_array_equal(found[:9, 36:], np.full((9, 14, 3), (128, 0, 0)))


def test_picture_names_the_classes_of_mask_and_prediction_in_their_colors(tmp_path):
    image = np.full((20, 60, 3), 200, np.uint8)
    mask, prediction = np.full((20, 60), 255, np.uint8), np.zeros((20, 60), np.uint8)
    mask[0], prediction[0] = 2, 4
    draw_segmentation(image, mask, prediction, "abcde", tmp_path / "picture.png")
    with Image.open(tmp_path / "picture.png") as file:
        legend = np.asarray(file)[20:].reshape(-1, 3)
    found = {tuple(colour) for colour in legend.tolist()}
    palette = [tuple(colour) for colour in voc_palette().tolist()]
    assert {palette[0], palette[2], palette[4]} <= found
    assert not {palette[1], palette[3], palette[255]} & found


def test_long_legend_continues_in_another_row(tmp_path):
    classes = np.arange(4, dtype=np.uint8).reshape(1, 4).repeat(10, axis=1)
    image = np.zeros((1, 40, 3), np.uint8)
    sizes = []
    for names in ("abcd", [f"a long name {place}" for place in range(4)]):
        draw_segmentation(image, classes, classes, names, tmp_path / "picture.png")
        with Image.open(tmp_path / "picture.png") as file:
            sizes.append(file.size)
    assert sizes == [(3 * 40 + 2 * 4, 1 + 14), (3 * 40 + 2 * 4, 1 + 4 * 14)]
