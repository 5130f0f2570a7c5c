"""Features of a sample of images: nearest neighbours, and a map in the plane."""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from byol_keras.monitoring.plain_images import plain_examples

BATCH_SIZE = 64
# Longest sides of stored pictures in pixels; smaller images are not resized.
THUMBNAIL, PICTURE = 96, 192
# Neighbours of a query, for the gallery and for the agreement of labels.
NEIGHBOURS = 6
_ENDS = ("most", "fewest")


class Sample(NamedTuple):
    """Images of the data, and the outputs of a backbone for them.

    Args:
        thumbnails: uint8 `[N, h, w, C]`, sides at most `THUMBNAIL`.
        pictures: uint8 `[M, h, w, C]`, the first images, sides at most `PICTURE`.
        features: float32 `[N, D]`, the representation, in inference mode.
        activations: float32 `[M, h, w]`, `feature5` averaged over its channels; None if
            the backbone has no such output.
        labels: int64 `[N]`, or None for data without one label per image.
    """

    thumbnails: np.ndarray
    pictures: np.ndarray
    features: np.ndarray
    activations: np.ndarray | None
    labels: np.ndarray | None


class Neighbours(NamedTuple):
    """The most similar other images of every image of a sample.

    Args:
        places: int64 `[N, k]`, the most similar first.
        similarities: float `[N, k]`, cosines.
        agreement: float `[N]`, share of the k neighbours with the label of the query;
            None without labels.
    """

    places: np.ndarray
    similarities: np.ndarray
    agreement: np.ndarray | None


def take_sample(backbone, data, shape, count: int, pictures: int, seed: int) -> Sample:
    """Reads images in the order of a run, and computes their features.

    Args:
        backbone: `keras.Model`; not changed.
        data: `data.ImageData`.
        shape: height, width and channels of the backbone's input.
        count: int. Number of images, or all if there are fewer.
        pictures: int. How many larger pictures to keep, at most `BATCH_SIZE`.
        seed: int. Of the order of the images.
    """
    count = min(count, data.num_examples)
    images = plain_examples(data, shape, count, seed)
    images = images.batch(min(count, BATCH_SIZE)).prefetch(2)
    # Traced for any batch size: the last batch is smaller.
    specification = tf.TensorSpec((None, *shape), tf.float32)
    forward = tf.function(lambda x: _read(backbone, x)).get_concrete_function(
        specification
    )
    parts, larger, activations = [], None, None
    for batch in images:
        outputs = forward(batch["image"])
        if larger is None:
            larger = to_bytes(batch["image"][:pictures], PICTURE)
            if "activation" in outputs:
                activations = outputs["activation"][:pictures].numpy()
        parts.append(
            (
                to_bytes(batch["image"], THUMBNAIL),
                outputs["feature"].numpy(),
                batch["label"].numpy(),
            )
        )
    thumbnails, features, labels = map(np.concatenate, zip(*parts, strict=True))
    has_labels = data.class_names is not None and labels.ndim == 1
    return Sample(
        thumbnails, larger, features, activations, labels if has_labels else None
    )


def to_bytes(images: tf.Tensor, side: int) -> np.ndarray:
    """float32 images in 0..1 as uint8, with a longer side of at most `side`."""
    longer = max(images.shape[1:3])
    if longer > side:
        size = [max(1, round(x * side / longer)) for x in images.shape[1:3]]
        images = tf.image.resize(images, size, antialias=True)
    scaled = tf.clip_by_value(images, 0.0, 1.0) * 255.0
    return tf.cast(tf.round(scaled), tf.uint8).numpy()


def find_neighbours(
    features: np.ndarray, labels: np.ndarray | None, k: int
) -> Neighbours:
    """The k most similar other images of each image, by cosine.

    Args:
        features: `[N, D]`.
        labels: int `[N]` or None.
        k: int, less than N.
    """
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    unit = features / np.where(lengths > 0.0, lengths, 1.0)
    cosines = unit @ unit.T
    np.fill_diagonal(cosines, -np.inf)
    places = np.argsort(-cosines, axis=1, kind="stable")[:, :k]
    similarities = np.take_along_axis(cosines, places, axis=1)
    agreement = None
    if labels is not None:
        agreement = np.mean(labels[places] == labels[:, None], axis=1)
    return Neighbours(places, similarities, agreement)


def choose_queries(
    found: Neighbours, labels: np.ndarray | None, count: int, seed: int
) -> dict[str, tuple[str, np.ndarray]]:
    """Queries for the gallery: random ones, and the best and the worst of the sample.

    With labels, the best have the most neighbours of their own label, and the worst the
    fewest, with one query of each label first and higher similarity before lower.
    Without labels, they have the largest and the smallest mean similarity.

    Args:
        found: the neighbours of all images.
        labels: int `[N]` or None.
        count: int. Queries of a group.
        seed: int. Of the random queries.

    Returns:
        Name of the group -> its description, and the places of its queries.
    """
    mean = np.mean(found.similarities, axis=1)
    chosen = np.random.default_rng(seed).permutation(len(mean))[:count]
    if labels is None:
        order = np.argsort(-mean, kind="stable")
        words = ("with the most similar neighbours", "with the least similar ones")
        best, worst = order, order[::-1]
    else:
        words = tuple(f"with the {x} neighbours of their label" for x in _ENDS)
        best = _first_of_each(np.lexsort((-mean, -found.agreement)), labels)
        worst = _first_of_each(np.lexsort((-mean, found.agreement)), labels)
    return {
        "Random queries": ("drawn at random", chosen),
        "Best queries": (words[0], best[:count]),
        "Worst queries": (words[1], worst[:count]),
    }


def _first_of_each(order, labels):
    """The places in this order, after the first place of each label."""
    first = np.sort(np.unique(labels[order], return_index=True)[1])
    return np.concatenate([order[first], np.delete(order, first)])


def embed_in_plane(features: np.ndarray, seed: int) -> tuple[str, np.ndarray]:
    """A map of the features, by the best installed method.

    Args:
        features: `[N, D]` with N at least 3.
        seed: int.

    Returns:
        Name of the method, and float64 `[N, 2]` in 0..1.
    """
    features = np.asarray(features, np.float64)
    for name, embed in (("UMAP", _umap), ("t-SNE", _tsne)):
        try:
            return name, _in_unit_square(embed(features, seed))
        except ImportError:
            continue
    return "PCA", _in_unit_square(_principal(features, 2))


def _umap(features, seed):
    from umap import UMAP

    neighbours = min(15, len(features) - 1)
    reducer = UMAP(
        n_neighbors=neighbours, metric="cosine", random_state=seed, init="pca", n_jobs=1
    )
    return reducer.fit_transform(features)


def _tsne(features, seed):
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    # scikit-learn's manual recommends fewer dimensions.
    features = _principal(features, 50)
    perplexity = min(30.0, (len(features) - 1) / 3.0)
    reducer = TSNE(perplexity=perplexity, init="pca", max_iter=500, random_state=seed)
    # More threads would compete with TensorFlow's, and wait for each other.
    with threadpool_limits(1):
        return reducer.fit_transform(features)


def _principal(features, count):
    centered = features - np.mean(features, axis=0)
    u, s, _ = np.linalg.svd(centered, full_matrices=False)
    found = (u * s)[:, :count]
    missing = max(0, 2 - found.shape[1])
    return np.pad(found, ((0, 0), (0, missing)))


def _in_unit_square(points):
    points = np.asarray(points, np.float64)
    low, high = points.min(axis=0), points.max(axis=0)
    return (points - low) / np.where(high > low, high - low, 1.0)


def _read(backbone, images):
    outputs = backbone(images, training=False)
    if not isinstance(outputs, dict):
        return {"feature": tf.cast(outputs, tf.float32)}
    found = {"feature": tf.cast(outputs["avgpool"], tf.float32)}
    maps = outputs.get("feature5")
    if maps is not None and maps.shape.rank == 4:
        found["activation"] = tf.reduce_mean(tf.cast(maps, tf.float32), axis=-1)
    return found
