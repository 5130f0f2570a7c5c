"""Embeds a folder of images with a trained backbone, and searches for similar images.

    python -m byol_keras.embed --model_dir=DIR --images=FOLDER --out=FILE.npz
    python -m byol_keras.embed --model_dir=DIR --images=FOLDER --out=FILE.npz \\
        --search=IMAGE --top=10 --picture=FILE.png

The same command again resumes a killed run, and leaves a complete file unchanged.
"""

import pathlib

import numpy as np
from absl import flags

from byol_keras.data.unreadable import listed_in
from byol_keras.embed import files, search
from byol_keras.embed.embed_folder import embed_images, images_for
from byol_keras.embed.embedder import make_embedder, trained_reading
from byol_keras.preview.contact_sheet import require_matplotlib
from byol_keras.runtime import cli
from byol_keras.runtime.atomic_files import write_text
from byol_keras.runtime.printable import printable


def check_flags(given) -> None:
    """Raises a `ValueError` unless the flags name all that is needed."""
    for name in ("images", "out"):
        if not given[name].value:
            raise ValueError(f"--{name} must be given. Received: none")
    if given.picture and not given.search:
        raise ValueError(
            f"--picture must come with --search. Received: {given.picture}"
        )
    if given.picture:
        require_matplotlib()


def print_similar(embedder, images, out, query, count, picture) -> None:
    """Prints the most similar images of a query, and plots them.

    Args:
        embedder: `Embedder`.
        images: `ImageData` of the folder.
        out: file of its embeddings.
        query: uint8 `[h, w, C]`.
        count: int. Number of similar images.
        picture: PNG file, or None.
    """
    (embedding,) = embedder(embedder.transform(query)[None])
    found = search.most_similar(embedding, files.read_blocks(out), count)
    for cosine, name in found:
        print(f"{cosine:.4f}  {name}")
    if picture:
        places = {name: place for place, name in enumerate(images.names)}
        similar = images.subset([places[name] for _, name in found], "neighbours")
        pixels = [query, *(example["image"] for example in similar.ordered())]
        gone = {file.place for file in similar.unreadable()}
        found = [pair for place, pair in enumerate(found) if place not in gone]
        first, *others = [np.asarray(embedder.transform(x)) for x in pixels]
        captions = [f"{cosine:.4f}  {pathlib.Path(n).name}" for cosine, n in found]
        search.plot_neighbours(first, others, captions, pathlib.Path(picture))
        print(f"written to {picture}")


def main(_):
    """Parses flags, embeds the images that are not embedded yet, and searches."""
    given = flags.FLAGS
    with cli.user_errors():
        check_flags(given)
        out = files.check_out(given.out)
        embedder, sizes = make_embedder(
            given.model_dir, given.backbone, given.feature, given.size, given.resize
        )
        reading = trained_reading(given.model_dir)
        images = images_for(embedder.backbone, given.images, **reading)
        query = None
        if given.search:  # before the long part
            query = search.read_query(given.search, images, **reading)
    with cli.user_errors((ValueError, OSError)), listed_in(None):
        bad = embed_images(embedder, images, out, sizes)
        if bad:
            print(f"{len(bad)} images could not be read; see {_listed(bad, out)}")
        print(f"embeddings in {out}")
        if given.search:
            print_similar(embedder, images, out, query, given.top, given.picture)


def _listed(bad, out):
    """Writes the list of unreadable images beside the embeddings; its path."""
    listing = out.with_name(out.name + ".bad_images.txt")
    lines = (f"{printable(path)}\t{printable(flaw)}\n" for path, flaw in bad.items())
    write_text(listing, "".join(lines))
    return listing


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "run folder.")
    flags.DEFINE_string("backbone", None, "backbone instead of the run's export.")
    flags.DEFINE_string("images", None, "folder of images.")
    flags.DEFINE_string("out", None, "file for the embeddings, .npz or .parquet.")
    flags.DEFINE_string("feature", "avgpool", "feature of the backbone.")
    flags.DEFINE_integer("size", None, "pixels of the backbone's input.", lower_bound=1)
    flags.DEFINE_integer("resize", None, "pixels of the short side.", lower_bound=1)
    flags.DEFINE_string("search", None, "image to search similar images for.")
    flags.DEFINE_integer("top", 10, "number of similar images.", lower_bound=1)
    flags.DEFINE_string("picture", None, "PNG file for the similar images.")
    cli.rename_arguments(query="search")
    cli.run(main)
