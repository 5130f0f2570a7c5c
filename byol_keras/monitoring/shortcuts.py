"""Shortcuts: what simple facts about an image predict of its representation.

A representation that is predicted by the mean color of an image has little room for
what the image shows. The functions are pure, in NumPy and float64. `CollapseDoctor`
calls them while BYOL trains, and `shortcut_verdict` puts their results into words.
"""

import numpy as np

FOLDS = 4
# Strengths of the ridge penalty for facts of unit variance. The largest one ignores
# facts that explain nothing, the smallest one is near least squares.
ALPHAS = (1.0, 10.0, 100.0, 1000.0)
# Views of smaller sides have no border and no thumbnail.
SMALLEST_SIDE = 8
# With fewer images, a held-out share says little.
FEWEST_IMAGES = 32
THUMBNAIL_CELLS = 4
# Rec. 601, as in `views.colors`.
_LUMA = (0.299, 0.587, 0.114)
# A Laplacian of this size is below one step of uint8: the image has no edge.
_NO_EDGE = 1e-3
# Images that are in memory as float64 at once.
_BLOCK = 32


def image_facts(images) -> dict[str, np.ndarray]:
    """Simple facts about images; the more detailed ones come last.

    Args:
        images: float32 `[N, H, W, C]` in 0..1, with H and W at least `SMALLEST_SIDE`.

    Returns:
        Fact -> float64 `[N, K]`:
            `color`: mean of each channel, in 0..1; `brightness` for one channel.
            `contrast`: standard deviation of luma, in 0..0.5.
            `blur`: logarithm of the standard deviation of the Laplacian of luma. Lower
                values are more blurred.
            `border`: mean color of the four strips along the sides, H // 8 or W // 8
                wide: top, bottom, left, right.
            `thumbnail`: means of each channel in 4 x 4 cells.
    """
    parts = [
        _facts_of_block(np.asarray(images[first : first + _BLOCK], np.float64))
        for first in range(0, len(images), _BLOCK)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _facts_of_block(images):
    grey = luma(images)
    first = "color" if images.shape[-1] > 1 else "brightness"
    return {
        first: images.mean(axis=(1, 2)),
        "contrast": grey.std(axis=(1, 2))[:, None],
        "blur": np.log(laplacian(grey).std(axis=(1, 2)) + _NO_EDGE)[:, None],
        "border": border(images),
        "thumbnail": thumbnail(images),
    }


def luma(images: np.ndarray) -> np.ndarray:
    """Brightness of each pixel: Rec. 601 of three channels, else their mean.

    Args:
        images: float64 `[N, H, W, C]` in 0..1.

    Returns:
        float64 `[N, H, W]` in 0..1.
    """
    if images.shape[-1] == len(_LUMA):
        return images @ np.array(_LUMA)
    return images.mean(axis=-1)


def laplacian(grey: np.ndarray) -> np.ndarray:
    """Four times each inner pixel minus its four neighbors.

    Args:
        grey: `[N, H, W]`.

    Returns:
        `[N, H - 2, W - 2]`.
    """
    inner = 4.0 * grey[:, 1:-1, 1:-1]
    vertical = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1]
    return inner - vertical - grey[:, 1:-1, :-2] - grey[:, 1:-1, 2:]


def border(images: np.ndarray) -> np.ndarray:
    """Mean color of the strips along the top, bottom, left and right side.

    Args:
        images: `[N, H, W, C]`.

    Returns:
        `[N, 4 * C]`.
    """
    high, wide = (max(1, side // 8) for side in images.shape[1:3])
    strips = (
        images[:, :high],
        images[:, -high:],
        images[:, :, :wide],
        images[:, :, -wide:],
    )
    return np.concatenate([strip.mean(axis=(1, 2)) for strip in strips], axis=1)


def thumbnail(images: np.ndarray) -> np.ndarray:
    """Means of each channel in 4 x 4 cells of the image.

    Args:
        images: `[N, H, W, C]`.

    Returns:
        `[N, 16 * C]`.
    """
    rows = np.array_split(images, THUMBNAIL_CELLS, axis=1)
    cells = [c for row in rows for c in np.array_split(row, THUMBNAIL_CELLS, axis=2)]
    return np.concatenate([cell.mean(axis=(1, 2)) for cell in cells], axis=1)


def file_facts(files) -> np.ndarray | None:
    """Logarithms of height, width and size of the image files, where they differ.

    Args:
        files: `[N, 3]`: height and width in pixels, and bytes.

    Returns:
        float64 `[N, K]` with K in 1..3; None if all files are equal in all three.
    """
    facts = np.log(np.asarray(files, np.float64))
    differing = np.ptp(facts, axis=0) > 0.0
    return facts[:, differing] if differing.any() else None


def all_facts(facts: dict[str, np.ndarray]) -> np.ndarray:
    """All facts of `image_facts` side by side, `[N, K]`."""
    return np.concatenate([*facts.values()], axis=1)


def residual_products(facts: np.ndarray) -> np.ndarray:
    """What `predicted_share` needs of the facts, once for any number of targets.

    Row i of a matrix R maps targets `[N, D]` to the residual of image i, when ridge
    regression on the images of the other folds predicts its targets from its facts.
    The first R predicts the mean of the other folds.

    Args:
        facts: `[N, K]`. Image i is in fold i modulo `FOLDS`.

    Returns:
        float64 `[1 + len(ALPHAS), N, N]`: the products of each R with itself, R^T R.
    """
    facts = np.asarray(facts, np.float64)
    count = len(facts)
    residuals = np.tile(np.eye(count), (1 + len(ALPHAS), 1, 1))
    for fold in range(FOLDS):
        held_out = np.arange(count) % FOLDS == fold
        rest = ~held_out
        weights = _weights_of_rest(facts[rest], facts[held_out])
        residuals[:, *np.ix_(held_out, rest)] -= weights
    return np.stack([matrix.T @ matrix for matrix in residuals])


def _weights_of_rest(known, new):
    """Weights of the known targets in the predictions: the mean, then each alpha."""
    mean, spread = known.mean(axis=0), known.std(axis=0)
    # A constant fact predicts nothing.
    spread = np.where(spread > 1e-9, spread, np.inf)
    u, values, v = np.linalg.svd((known - mean) / spread, full_matrices=False)
    new = (new - mean) / spread @ v.T
    # The columns of u sum to 0, as those of the facts, which centers the targets.
    weights = [np.zeros((len(new), len(known)))]
    weights += [new * (values / (values**2 + alpha)) @ u.T for alpha in ALPHAS]
    return np.stack(weights) + 1.0 / len(known)


def predicted_share(products: np.ndarray, targets) -> float:
    """Share of the variance of held-out targets that the facts predict, R squared.

    The strength of the ridge penalty is the best of `ALPHAS` on the same images, which
    raises the share of facts without effect by less than 0.01.

    Args:
        products: result of `residual_products`.
        targets: `[N, D]`, any real dtype.

    Returns:
        float in 0..1; 0 if the targets do not vary.
    """
    targets = np.asarray(targets, np.float64)
    targets = targets - targets.mean(axis=0)
    # The squared residuals, |R targets|^2, are the sum of R^T R times this matrix.
    similarity = targets @ targets.T
    total, *errors = np.tensordot(products, similarity, axes=2)
    if total <= 1e-12 * len(targets):
        return 0.0
    return float(np.clip(1.0 - min(errors) / total, 0.0, 1.0))


def surviving_share(first: np.ndarray, second: np.ndarray) -> float:
    """How well a fact of view 1 predicts the same fact of view 2, R squared.

    Args:
        first, second: `[N, K]`. Row i of both belongs to image i.

    Returns:
        float in 0..1. Each column counts equally; constant ones are left out.
    """
    spread = second.std(axis=0)
    varying = spread > 1e-9
    return predicted_share(
        residual_products(first), second[:, varying] / spread[varying]
    )


class ShortcutReader:
    """Reads shortcuts of representations of the same images, at little cost.

    Args:
        images: float32 `[N, H, W, C]` in 0..1, without augmentation.
        views: `(view1, view2)`, each float32 `[M, S, S, C]` in 0..1.
        files: optional `[N, 3]`; see `file_facts`.

    Attributes:
        images: as given.
        survival: fact -> share that survives from view 1 to view 2, in 0..1.

    Raises:
        ValueError: for fewer than `FEWEST_IMAGES` images or pairs of views, and for
            images with a side below `SMALLEST_SIDE`.
    """

    def __init__(self, images, views, files=None):
        for name, batch in (("images", images), ("view1", views[0])):
            if not can_be_read(batch):
                raise ValueError(
                    f"{name} must have at least {FEWEST_IMAGES} images of at least "
                    f"{SMALLEST_SIDE} pixels. Received: shape {tuple(batch.shape)}"
                )
        self.images = images
        facts = image_facts(images)
        facts["all"] = all_facts(facts)
        of_files = None if files is None else file_facts(files)
        if of_files is not None:
            facts["file"] = of_files
        self._products = {name: residual_products(x) for name, x in facts.items()}
        first, second = (image_facts(view) for view in views)
        self.survival = {x: surviving_share(first[x], second[x]) for x in first}

    def read(self, features) -> dict[str, float]:
        """Share of the variance of the unit features that each fact predicts.

        Args:
            features: `[N, D]`, any real dtype.

        Returns:
            `shortcut/<fact>` -> float in 0..1; `shortcut/all` for all facts of images
            together, `shortcut/file` for those of files.
        """
        features = np.asarray(features, np.float64)
        lengths = np.linalg.norm(features, axis=1, keepdims=True)
        unit = features / np.where(lengths > 0.0, lengths, 1.0)
        return {
            f"shortcut/{name}": predicted_share(products, unit)
            for name, products in self._products.items()
        }


def can_be_read(images) -> bool:
    """Whether images `[N, H, W, C]` are enough, and large enough, for facts."""
    count, *sides = images.shape[:3]
    return count >= FEWEST_IMAGES and min(sides) >= SMALLEST_SIDE
