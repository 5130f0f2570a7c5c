"""Embeds a folder of images by a trained backbone, and finds images that are alike.

    python -m byol_keras.embed --model_dir=DIR --images=FOLDER --out=FILE.npz
    python -m byol_keras.embed --model_dir=DIR --images=FOLDER --out=FILE.npz \
        --search=IMAGE --top=10 --picture=FILE.png

The same command again goes on where it was ended; what is whole is not made again.
"""

import ast
import functools
import pathlib
import re

import numpy as np
from absl import app, flags

from byol_keras import data
from byol_keras.data import array_files, image_files
from byol_keras.data.unreadable import flaw_of_file
from byol_keras.embed import files, nearest
from byol_keras.embed.embedder import Embedder, embed
from byol_keras.export import load_backbone
from byol_keras.preview import contact_sheet
from byol_keras.runtime import cli
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.run_folder import RunFolder
from byol_keras.views.transforms import resize_center_crop

# Thumbnails are seen whole; of larger images benchmarks leave out a border of 1/16.
_THUMBNAIL = 64


def trained_size(run_folder: pathlib.Path) -> int:
    """Pixels of the views that a run was trained on.

    Args:
        run_folder: with `operative_config.gin`.

    Raises:
        ValueError: if it does not tell, or tells more than one size.
    """
    file = RunFolder(run_folder).operative_config
    text = file.read_text() if file.exists() else ""
    found = set(re.findall(r"^(?:\w+/)*RandomResizedCrop\.size = (.+)$", text, re.M))
    for name in {value for value in found if value.startswith("%")}:
        bound = re.search(rf"^{re.escape(name[1:])} = (.+)$", text, re.M)
        found = (found - {name}) | ({bound[1]} if bound else set())
    sizes = {ast.literal_eval(value) for value in found}
    if len(sizes) != 1 or not isinstance(size := sizes.pop(), int):
        raise ValueError(
            "--size must be given unless the run was trained on square crops of one "
            f"size. Received: none, and {sorted(found) or 'no size'} in {file}"
        )
    return size


def default_resize(size: int) -> int:
    """Pixels of the short side before the central `size` x `size` is cut out."""
    return size if size < _THUMBNAIL else round(size * 8 / 7)


def make_embedder(
    model_dir: str | None,
    backbone: str | None,
    feature: str = "avgpool",
    size: int | None = None,
    resize: int | None = None,
) -> tuple[Embedder, dict[str, int]]:
    """The backbone and the preparation of its images.

    Args:
        model_dir: run folder.
        backbone: what `export.load_backbone` reads instead of the run's export.
        feature: name; see `benchmarks.features.read_feature`.
        size: int or None. Of the images that the backbone sees; of the run's views.
        resize: int or None. Of the short side before; see `default_resize`.

    Returns:
        The embedder, and the sizes that were chosen.

    Raises:
        ValueError: if there is no backbone, or no size is known.
    """
    if not (model_dir or backbone):
        raise ValueError(
            "--model_dir or --backbone must name a backbone. Received: none"
        )
    if size is None:
        if not model_dir:
            raise ValueError("--size must be given with --backbone. Received: none")
        size = trained_size(pathlib.Path(model_dir))
    resize = resize or default_resize(size)
    if not 1 <= size <= resize:
        raise ValueError(
            f"--size must be within 1 and --resize={resize}. Received: {size}"
        )
    model = load_backbone(backbone or model_dir)
    transform = functools.partial(resize_center_crop, size=size, resize=resize)
    return Embedder(model, transform, feature), {
        "size": size,
        "resize": resize,
    }


def images_for(model, path: str) -> data.ImageData:
    """The images of a folder in the channels of a backbone, however many are bad."""
    shape = getattr(model, "input_shape", None)
    channels = shape[-1] if isinstance(shape, tuple) else None
    return data.image_folder(path, channels=channels, max_bad_share=1.0)


def search(embedder, folder_data, out, path, count, picture) -> None:
    """Prints the nearest neighbours of an image, and draws them.

    Args:
        embedder: `embedder.Embedder`.
        folder_data: `image_data.ImageData` that `out` is of.
        out: file of embeddings.
        path: of the image.
        count: int.
        picture: PNG file, or None.
    """
    image = read_image(path, folder_data)
    (query,) = embedder(embedder.transform(image)[None])
    found = nearest.nearest(query, files.read_blocks(out), count)
    for cosine, name in found:
        print(f"{cosine:.4f}  {name}")
    if picture:
        names = {name: place for place, name in enumerate(folder_data.names)}
        places = [names[name] for _, name in found]
        images = [
            example["image"]
            for example in folder_data.subset(places, "neighbours").ordered()
        ]
        captions = [f"{cosine:.4f}  {pathlib.Path(n).name}" for cosine, n in found]
        shown = [np.asarray(embedder.transform(x)) for x in (image, *images)]
        nearest.draw(shown[0], shown[1:], captions, pathlib.Path(picture))
        print(f"written to {picture}")


def read_image(path: str, like: data.ImageData) -> np.ndarray:
    """One image of a file, uint8 `[h, w, C]`, in the channels of others.

    Raises:
        ValueError: if it cannot be read.
    """
    if path.lower().endswith(array_files.SUFFIXES):
        reader, examine = array_files, array_files.flaw_of_array
    else:
        reader, examine = image_files, flaw_of_file
    flaw = examine(path, like.channels)
    if flaw:
        raise ValueError(
            f"--search must be a readable image. Received: {path} ({flaw})"
        )
    (element,) = reader.file_rows([path], None, like.channels).ordered()
    return like.decode(element["image"]).numpy()


def main(_):
    """Parses flags, embeds what is not embedded yet, and searches."""
    given = flags.FLAGS
    with cli.user_errors():
        for name in ("images", "out"):
            if not given[name].value:
                raise ValueError(f"--{name} must be given. Received: none")
        if given.picture and not given.search:
            raise ValueError(
                f"--picture must come with --search. Received: {given.picture}"
            )
        out = files.check_path(given.out)
        if given.picture:
            contact_sheet.require_matplotlib()
        embedder, sizes = make_embedder(
            given.model_dir, given.backbone, given.feature, given.size, given.resize
        )
        images = images_for(embedder.backbone, given.images)
        if given.search:
            read_image(given.search, images)  # a mistake shows before the work
    with cli.user_errors((ValueError,)):
        bad = embed(embedder, images, out, sizes)
    if bad:
        listing = out.with_name(out.name + ".bad_images.txt")
        lines = (f"{path}\t{flaw}\n" for path, flaw in bad.items())
        write_text(listing, "".join(lines))
        print(f"{len(bad)} images could not be read; see {listing}")
    print(f"embeddings in {out}")
    if given.search:
        search(embedder, images, out, given.search, given.top, given.picture)


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "run folder.")
    flags.DEFINE_string("backbone", None, "backbone instead of the run's export.")
    flags.DEFINE_string("images", None, "folder of images.")
    flags.DEFINE_string("out", None, "file for the embeddings, .npz or .parquet.")
    flags.DEFINE_string("feature", "avgpool", "feature of the backbone.")
    flags.DEFINE_integer("size", None, "pixels that the backbone sees.", lower_bound=1)
    flags.DEFINE_integer("resize", None, "short side before.", lower_bound=1)
    flags.DEFINE_string("search", None, "image to find the nearest ones of.")
    flags.DEFINE_integer("top", 10, "how many nearest images.", lower_bound=1)
    flags.DEFINE_string("picture", None, "PNG file for the nearest images.")
    app.run(main, flags_parser=cli.parse_flags)
