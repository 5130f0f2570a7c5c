"""The embed command, from a folder with odd and broken images to a search."""

import collections
import io
import types

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from byol_keras.data import image_folder
from byol_keras.data.decoding import to_float
from byol_keras.embed import __main__ as command
from byol_keras.embed import files
from byol_keras.embed.embedder import Embedder

from support import images as odd_images
from support.processes import command_line

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


@pytest.mark.slow
@pytest.mark.parametrize(
    "arguments, message",
    [
        ((), "--images must be given"),
        (("--images=x",), "--out must be given"),
        (("--images=x", "--out=x.csv"), "--out must end in .npz or .parquet"),
        (("--images=x", "--out=x.npz", "--picture=x.png"), "must come with --search"),
        (("--images=x", "--out=x.npz"), "--model_dir or --backbone must name"),
        (("--images=x", "--out=x.npz", "--backbone=x"), "--size must be given"),
    ],
)
def test_mistake_is_one_line(arguments, message):
    done = command_line("embed", *arguments)
    assert done.returncode == 2
    (line,) = [x for x in done.stderr.splitlines() if x.startswith("error: ")]
    assert message in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("place", ["embed_images", "print_similar"])
def test_folder_that_cannot_be_written_is_one_line(place, monkeypatch, capsys):
    def fail(*arguments):
        raise OSError(30, "Read-only file system", "x.npz")

    given = {"search": "x.png", "out": "x.npz"}
    given = collections.defaultdict(lambda: None, given)
    names = "model_dir backbone images out feature size resize search top picture"
    given = types.SimpleNamespace(**{name: given[name] for name in names.split()})
    monkeypatch.setattr(command.flags, "FLAGS", given)
    monkeypatch.setattr(command, "check_flags", lambda given: None)
    embedder = types.SimpleNamespace(backbone=None)
    monkeypatch.setattr(command, "make_embedder", lambda *rest: (embedder, {}))
    monkeypatch.setattr(command, "images_for", lambda *rest: None)
    monkeypatch.setattr(command.search, "read_query", lambda *rest: None)
    monkeypatch.setattr(command, "embed_images", lambda *rest: {})
    monkeypatch.setattr(command.cli, "with_flags", lambda line: line)
    monkeypatch.setattr(command, place, fail)
    with pytest.raises(SystemExit) as stop:
        command.main(None)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "error: [Errno 30] Read-only file system: 'x.npz'"


def test_similar_image_that_was_deleted_is_not_drawn(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    for number in range(4):
        image = Image.fromarray(np.full((8, 8, 3), 50 * number, np.uint8))
        image.save(tmp_path / f"{number}.png")
    source = image_folder(tmp_path, max_bad_share=1.0)
    similar = [(0.9, "1.png"), (0.8, "2.png"), (0.7, "3.png")]
    drawn = []

    def in_0_to_1(image):
        return to_float(tf.constant(image))

    monkeypatch.setattr(command.files, "read_blocks", lambda out: [])
    monkeypatch.setattr(command.search, "most_similar", lambda *rest: similar)
    monkeypatch.setattr(command.search, "plot_neighbours", lambda *x: drawn.append(x))
    embedder = Embedder(lambda x, training: x, in_0_to_1, "avgpool")
    (tmp_path / "2.png").unlink()
    picture = tmp_path / "picture.png"
    query = np.zeros((8, 8, 3), np.uint8)
    command.print_similar(embedder, source, None, query, 3, picture)
    ((_, images, captions, _),) = drawn
    assert captions == ["0.9000  1.png", "0.7000  3.png"]
    assert [round(255 * float(np.max(x))) for x in images] == [50, 150]
