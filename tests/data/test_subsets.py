"""Subsets have the promised size of every class, and the files that a list names."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from byol_keras import data
from byol_keras.data.published import (
    imagenet_folder,
    inaturalist2018,
    voc_classification,
)
from byol_keras.data.subsets import listed_subset, stratified_subset

from support.datasets import (
    make_imagenet,
    make_inaturalist2018,
    make_vocdevkit,
    numbers,
    write,
    write_jpeg,
    write_text,
)

# Of 3 classes; shuffled.
COUNTS = (40, 24, 3)


def numbered(counts=COUNTS):
    """Labelled one-pixel images, of which each shows its place."""
    labels = np.repeat(np.arange(len(counts)), counts)
    labels = np.random.default_rng(0).permutation(labels)
    images = np.arange(len(labels), dtype=np.uint8)[:, None, None, None]
    return data.arrays(images, labels)


# stratified_subset


@pytest.mark.parametrize(
    ("fraction", "expected"),
    [
        (1.0, [40, 24, 3]),
        (0.5, [20, 12, 2]),
        (0.1, [4, 2, 1]),
        (0.01, [1, 1, 1]),
    ],
)
def test_every_class_keeps_its_rounded_share_and_at_least_one(fraction, expected):
    subset = stratified_subset(numbered(), fraction=fraction)
    assert np.bincount(subset.labels()).tolist() == expected
    assert subset.num_examples == sum(expected)


def test_every_class_keeps_the_same_number():
    labels = stratified_subset(numbered(), per_class=3).labels()
    assert np.bincount(labels).tolist() == [3, 3, 3]


def test_subset_keeps_the_stored_order_and_pairs_images_with_their_labels():
    whole = numbered()
    subset = stratified_subset(whole, fraction=0.5)
    places = numbers(subset)
    assert places == sorted(set(places))
    np.testing.assert_array_equal(subset.labels(), whole.labels()[places])
    read = [int(example["label"]) for example in subset.ordered()]
    assert read == subset.labels().tolist()


def test_images_and_labels_of_a_subset_agree_without_its_unreadable_images(tmp_path):
    for number in range(12):
        image = np.full((4, 4, 1), number, np.uint8)
        path = tmp_path / "ab"[number % 2] / f"{number:02}.png"
        write(path, tf.io.encode_png(image) if number not in (2, 7) else b"broken")
    source = data.image_folder(tmp_path, channels=1, max_bad_share=0.5)
    subset = stratified_subset(source, per_class=5, seed=1)
    pairs = [(int(x["image"][0, 0, 0]), int(x["label"])) for x in subset.ordered()]
    chosen = [int(name[2:4]) for name in subset.names]
    assert len(chosen) == 10
    assert pairs == [(n, n % 2) for n in chosen if n not in (2, 7)]
    assert subset.labels().tolist() == [label for _, label in pairs]
    assert subset.readable().num_examples == len(pairs)


def test_the_seed_determines_the_chosen_examples():
    chosen = [numbers(stratified_subset(numbered(), 0.5, seed=s)) for s in (3, 3, 4)]
    assert chosen[0] == chosen[1] != chosen[2]


def test_chosen_examples_are_the_same_on_every_machine():
    source = data.arrays(
        np.arange(12, dtype=np.uint8)[:, None, None, None], np.arange(12) % 3
    )
    # The examples of each class with the least raw numbers of NumPy's PCG64(seed).
    assert numbers(stratified_subset(source, per_class=2)) == [1, 2, 3, 6, 7, 11]
    assert numbers(stratified_subset(source, fraction=0.25, seed=1)) == [2, 4, 9]


def test_a_smaller_subset_is_part_of_a_larger_one():
    small, large, larger = (
        set(numbers(stratified_subset(numbered(), share))) for share in (0.1, 0.4, 0.9)
    )
    assert small < large < larger


def test_every_example_is_chosen_about_equally_often():
    hits = np.zeros(40)
    names = [str(place) for place in range(40)]
    source = dataclasses.replace(numbered(counts=(40,)), names=names)
    for seed in range(200):
        subset = stratified_subset(source, fraction=0.5, seed=seed)
        hits[[int(name) for name in subset.names]] += 1
    assert hits.sum() == 200 * 20
    assert 65 < hits.min() <= hits.max() < 135  # 100 expected, standard deviation 7


def test_the_name_states_the_share_and_the_seed():
    subset = stratified_subset(numbered(), 0.1, seed=5)
    assert subset.name.endswith(", 10 % of each class, seed 5")
    subset = stratified_subset(numbered(), per_class=2)
    assert subset.name.endswith(", 2 of each class, seed 0")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "either fraction or per_class. Received: None and None"),
        ({"fraction": 0.1, "per_class": 1}, "either fraction or per_class"),
        ({"fraction": 0.0}, r"fraction must be in 0\.\.1, 0 excluded. Received: 0.0"),
        ({"fraction": 1.5}, "fraction must be in"),
        ({"fraction": "0.1"}, "fraction must be in"),
        ({"per_class": 0}, "per_class must be a positive int. Received: 0"),
        ({"per_class": 1.5}, "per_class must be a positive int"),
        ({"per_class": 4}, "at most 3, the number of examples of class 2. Received: 4"),
    ],
)
def test_shares_out_of_range_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        stratified_subset(numbered(), **arguments)


def test_data_of_several_labels_per_image_are_refused(tmp_path):
    voc = voc_classification(make_vocdevkit(tmp_path, num_images=2))
    with pytest.raises(ValueError, match=r"one label per image\. Received: VOC2007"):
        stratified_subset(voc, fraction=0.5)


# listed_subset


def listed(source, folder, *lines):
    write_text(folder / "list.txt", lines)
    return listed_subset(source, folder / "list.txt")


def test_files_are_found_by_name_or_relative_path_in_stored_order(tmp_path):
    source = imagenet_folder(make_imagenet(tmp_path))
    subset = listed(
        source,
        tmp_path,
        "n01484850_5.JPEG",
        "",
        "n01440764/n01440764_1.JPEG",
        "n01484850_5.JPEG",
        "n01484850/n01484850_5.JPEG",
    )
    assert numbers(subset) == [1, 5]
    assert subset.labels().tolist() == [0, 2]
    assert subset.names == ["n01440764/n01440764_1.JPEG", "n01484850/n01484850_5.JPEG"]
    assert subset.class_names == source.class_names
    assert subset.name.endswith(", files of list.txt")


def test_a_list_applies_to_listed_images_too(tmp_path):
    source = inaturalist2018(make_inaturalist2018(tmp_path))
    assert numbers(listed(source, tmp_path, "3.jpg", "0.jpg")) == [0, 3]


def test_names_that_the_data_lack_are_counted_with_examples(tmp_path):
    source = imagenet_folder(make_imagenet(tmp_path))
    known = "n01440764_1.JPEG"
    with pytest.raises(ValueError, match="names_file must name one file of") as error:
        listed(source, tmp_path, "e", "d", known, "c", "b", "a")
    message = str(error.value)
    assert "5 of 6 names that are not among the data, such as a, b, c" in message
    assert "\n" not in message


def test_a_name_that_several_images_have_is_refused(tmp_path):
    for number, folder in enumerate(("ant", "bee")):
        write_jpeg(tmp_path / "images" / folder / "1.jpg", number)
    source = data.image_folder(tmp_path / "images")
    assert numbers(listed(source, tmp_path, "bee/1.jpg")) == [1]
    with pytest.raises(ValueError, match="1 of 1 names that are of several images"):
        listed(source, tmp_path, "1.jpg")


def test_lists_that_are_missing_or_empty_are_refused(tmp_path):
    source = imagenet_folder(make_imagenet(tmp_path))
    with pytest.raises(ValueError, match=r"must be an existing file.*/none.txt"):
        listed_subset(source, tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"must name files. Received: .*/list.txt"):
        listed(source, tmp_path, "")


def test_data_without_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must be image files.*Received: arrays"):
        listed(numbered(), tmp_path, "1.jpg")
