"""From a folder of odd and broken images to a search, by command lines alone."""

import io

import numpy as np
import pytest

from byol_keras import data
from byol_keras.backbones import resnet18
from byol_keras.embed import __main__ as embed
from byol_keras.embed import files

from support.processes import command_line

odd_images = pytest.importorskip("odd_images", exc_type=ImportError)
Image = pytest.importorskip("PIL.Image")

TINY = (
    "--gin_file=gin/pretrain/image_folder_resnet18.gin",
    "--gin_param=train.epochs=1",
    "--gin_param=train.batch_size=50",
    "--gin_param=resnet18.width=0.125",
    "--gin_param=RandomResizedCrop.size=32",
    "--gin_param=BYOL.hidden_units=32",
    "--gin_param=BYOL.output_units=16",
    "--gin_param=image_folder.max_bad_share=0.1",
    "--gin_param=warmup_cosine.warmup_epochs=0",
)


def write_run(folder, size):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "operative_config.gin").write_text(size)
    return folder


def mixed_folder(folder):
    """200 images of mixed sizes and formats: 176 patterns, 11 odd ones, 13 broken."""
    odd = {name: odd_images.ODD[name] for name in sorted(odd_images.ODD)[:11]}
    odd_images.write_all(folder / "odd", odd)
    odd_images.write_all(folder / "broken", odd_images.BROKEN)
    rng = np.random.default_rng(0)
    forms = ("jpeg", "png", "bmp", "gif", "webp", "tiff")
    for number in range(200 - 11 - len(odd_images.BROKEN)):
        height, width = rng.integers(30, 120, 2)
        colour = rng.integers(0, 256, 3)
        pixels = np.tile(colour.astype(np.uint8), (height, width, 1))
        pixels[:: 2 + number % 5] //= 2
        stream, form = io.BytesIO(), forms[number % len(forms)]
        image = Image.fromarray(pixels)
        (image.convert("L") if number % 7 == 0 else image).save(stream, form)
        path = folder / f"class{number % 3}" / f"{number}.{form}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(stream.getvalue())
    return folder


@pytest.mark.slow
def test_200_mixed_images_are_trained_on_embedded_and_searched(tmp_path):
    images = mixed_folder(tmp_path / "images")
    done = command_line(
        "train", *TINY, f"--gin_param=image_folder.path='{images}'",
        f"--model_dir={tmp_path / 'run'}",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run/bad_images.txt").read_text().splitlines()) > 5

    out = tmp_path / "embeddings.npz"
    query = images / "class1/1.png"
    command = (f"--model_dir={tmp_path / 'run'}", f"--images={images}", f"--out={out}")
    search = (f"--search={query}", "--top=5", f"--picture={tmp_path / 'near.png'}")
    done = command_line("embed", *command, *search)
    assert done.returncode == 0, done.stderr
    bad = len(odd_images.BROKEN)
    assert f"{bad} images could not be read" in done.stdout
    listed = (tmp_path / "embeddings.npz.bad_images.txt").read_text().splitlines()
    assert len(listed) == bad
    (block,) = files.read_blocks(out)
    assert block.features.shape == (200 - bad, 64)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["1.0000", "class1/1.png"] in lines
    assert (tmp_path / "near.png").stat().st_size > 5_000

    again = command_line("embed", *command, *search)
    assert again.stdout.splitlines()[1:] == done.stdout.splitlines()[2:]


@pytest.mark.parametrize(
    "text",
    [
        "RandomResizedCrop.size = 96\n",
        "view1/RandomResizedCrop.size = 96\nRandomResizedCrop.size = 96\n",
        "SIZE = 96\nRandomResizedCrop.size = %SIZE\n",
    ],
)
def test_size_is_that_of_the_runs_views(text, tmp_path):
    assert embed.trained_size(write_run(tmp_path, text)) == 96


@pytest.mark.parametrize(
    "text",
    [
        "",
        "RandomResizedCrop.area = (0.1, 1.0)\n",
        "a/RandomResizedCrop.size = 96\nb/RandomResizedCrop.size = 32\n",
        "RandomResizedCrop.size = (96, 32)\n",
        "RandomResizedCrop.size = %SIZE\n",
    ],
)
def test_size_must_be_given_where_the_run_does_not_tell_it(text, tmp_path):
    with pytest.raises(ValueError, match="--size must be given unless"):
        embed.trained_size(write_run(tmp_path, text))


def test_short_side_is_larger_by_a_seventh_but_for_thumbnails():
    assert [embed.default_resize(n) for n in (28, 32, 96, 224)] == [28, 32, 110, 256]


def test_embedder_prepares_images_of_any_size_as_the_benchmarks_do(tmp_path):
    path = tmp_path / "backbone.keras"
    resnet18(width=0.125).save(path)
    embedder, sizes = embed.make_embedder(None, str(path), size=32, resize=40)
    assert sizes == {"size": 32, "resize": 40}
    pixels = np.zeros((50, 90, 3), np.uint8)
    prepared = embedder.transform(pixels)
    assert prepared.shape == (32, 32, 3)
    assert embedder(prepared[None]).shape == (1, 64)


def test_mistakes_name_their_flag(tmp_path):
    for arguments, message in (
        ((None, None), "--model_dir or --backbone must name a backbone"),
        ((None, "x.keras"), "--size must be given with --backbone"),
    ):
        with pytest.raises(ValueError, match=message):
            embed.make_embedder(*arguments)
    with pytest.raises(ValueError, match="--size must be within 1 and --resize=30"):
        embed.make_embedder(None, "x.keras", size=32, resize=30)


def test_query_is_read_in_the_channels_of_the_folder(tmp_path):
    files = {name: odd_images.ODD[name] for name in ("rgb.tif", "palette.png")}
    odd_images.write_all(tmp_path, files)
    grey = data.image_folder(tmp_path, channels=1)
    image = embed.read_image(str(tmp_path / "rgb.tif"), grey)
    assert image.shape == (*odd_images.SIZE, 1)


def test_query_of_many_channels_is_an_array(tmp_path):
    pixels = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    np.save(tmp_path / "x.npy", pixels)
    folder = data.image_folder(tmp_path)
    image = embed.read_image(str(tmp_path / "x.npy"), folder)
    np.testing.assert_array_equal(image, pixels)


def test_query_that_cannot_be_read_is_told_with_the_reason(tmp_path):
    odd_images.write_all(tmp_path, {"rgb.tif": odd_images.ODD["rgb.tif"]})
    odd_images.write_all(tmp_path, {"empty.jpg": odd_images.BROKEN["empty.jpg"]})
    folder = data.image_folder(tmp_path, max_bad_share=1.0)
    with pytest.raises(ValueError, match=r"readable image.*empty file"):
        embed.read_image(str(tmp_path / "empty.jpg"), folder)


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "--images must be given"),
        (("--images=x",), "--out must be given"),
        (("--images=x", "--out=x.csv"), "--out must end in .npz or .parquet"),
        (("--images=x", "--out=x.npz", "--picture=x.png"), "must come with --search"),
        (("--images=x", "--out=x.npz"), "--model_dir or --backbone must name"),
    ],
)
def test_command_line_ends_with_one_line(arguments, message):
    done = command_line("embed", *arguments)
    assert done.returncode == 2
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert message in line
    assert "Traceback" not in done.stderr
