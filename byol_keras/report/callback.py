"""Writes the report of a run during training."""

import importlib.util
import logging
import os
import time
from typing import Any

import gin
import keras

from byol_keras.report import class_scores, verdicts
from byol_keras.report.stored_run import read_run, write_pictures
from byol_keras.runtime.argument_checks import check_int
from byol_keras.runtime.run_folder import RunFolder

# Packages of the extra "report" that every page needs.
LIBRARIES = ("jinja2", "matplotlib")
# Expected duration of the first pictures in seconds.
_FIRST_PICTURES = 5.0
_SHOWN_IMAGES = 8
# Pictures of the representation that may fail, or be missing for a backbone.
_OPTIONAL = ("activations", "neighbours", "map")


class _Account:
    """Seconds spent on a part of the report, and expected for its next time."""

    def __init__(self, expected):
        self.spent = 0.0
        self.expected = expected

    def fits(self, allowed):
        return self.spent + self.expected <= allowed

    def take(self, what, function):
        begin = time.perf_counter()
        _safely(what, function)
        self.expected = time.perf_counter() - begin
        self.spent += self.expected


@gin.register(module="byol_keras")
class Report(keras.callbacks.Callback):
    """Writes `report.html` after every epoch, without effect on training.

    Pictures that need the backbone (neighbours, map, activations, spectrum) are made at
    the end of training. They are also made at the end of an epoch if the expected total
    time of the report is below `max_share` of the training time. They are stored in
    `report_pictures.json`, which `python -m byol_keras.report` reads. After very short
    epochs the page is not always rewritten, to keep below that share.

    For data with labels, kNN of up to 1,000 of its images is measured before training,
    for raw pixels and for the untrained backbone, and three times during training; see
    `class_scores`. A run that stays below one of the two after a fifth of its length
    prints a warning. Runs that are too short to afford this are not scored.

    If UMAP is installed, its first use compiles it, which takes many seconds. On an
    error a warning is logged, and the page lacks that part.

    Args:
        model_dir: path of the run folder. None writes nothing.
        data: optional `data.ImageData` of the run, for everything that shows images.
        views: optional `views.TwoViews` of the run.
        seed: int. Of the run.
        pass_length: optional int. Of the run; see `ImageData.stream`.
        images: int. Number of images for neighbours, map and spectrum; at least 8.
        max_share: float in 0..1. Largest share of the training time; see above.

    Raises:
        ValueError: for a number out of range.
    """

    async_safe = False
    stateless = True
    chief_only = True

    def __init__(
        self,
        model_dir,
        data: Any = None,
        views: Any = None,
        seed: int = 0,
        pass_length: int | None = None,
        images: int = 400,
        max_share: float = 0.01,
    ):
        super().__init__()
        check_int("images", images, least=8)
        if not isinstance(max_share, int | float) or not 0.0 <= max_share <= 1.0:
            raise ValueError(f"max_share must be within 0..1. Received: {max_share!r}")
        self.folder = None if model_dir is None else RunFolder(model_dir)
        self.data = data
        self.views = views
        self.seed = seed
        self.pass_length = pass_length
        self.images = images
        self.max_share = max_share
        self._pictures = {}
        self._is_off = True

    def on_train_begin(self, logs=None):
        self._begin = time.perf_counter()
        self._pages, self._others = _Account(0.0), _Account(_FIRST_PICTURES)
        self._scores, self._score_now = _Account(0.0), None
        self._has_sheet = False
        missing = missing_libraries()
        self._is_off = bool(missing) or self.folder is None
        if missing:
            print(f"no report without {' and '.join(missing)}: {how_to_install()}")
        if not self._is_off:
            _safely("report", self._prepare)
            self._scores.take("kNN of the classes", self._prepare_scores)

    def on_epoch_end(self, epoch, logs=None):
        if self._score_now is not None:
            progress = (epoch + 1) / self.params["epochs"]
            self._scores.take("kNN of the classes", lambda: self._score(progress))
        spent = self._pages.spent + self._others.spent + self._scores.spent
        allowed = self.max_share * (time.perf_counter() - self._begin - spent)
        if self._pages.fits(allowed):
            self._update(with_pictures=self._others.fits(allowed - self._pages.spent))

    def on_train_end(self, logs=None):
        self._update(with_pictures=True)

    def write(self) -> None:
        """Rewrites the page from the files of the run folder."""
        if not self._is_off:
            path = self.folder.report
            self._pages.take("report", lambda: _write_page(path))

    def _update(self, with_pictures):
        if self._is_off:
            return
        if not self._has_sheet and None not in (self.views, self.data):
            self._has_sheet = True  # the same after every epoch, even if it fails
            expected = self._others.expected
            self._others.take("augmentation sheet", self._show_augmentations)
            self._others.expected = expected
        if self.data is not None and with_pictures:
            self._others.take(
                "pictures of the representation", self._show_representation
            )
        self.write()

    def _prepare(self):
        # Imported before training, so that the import is not in the time of a page.
        from byol_keras.report import page  # noqa: F401

        if self.folder.report_pictures.exists():
            # A resumed run keeps its pictures.
            self._read_pictures()

    def _read_pictures(self):
        self._pictures = read_run(self.folder).pictures
        # The augmentations may have been changed.
        self._pictures.pop("augmentations", None)

    def _prepare_scores(self):
        if self.data is None or self.data.class_names is None:
            return
        epochs = self.params["epochs"]
        count = class_scores.affordable_images(self.data.num_examples, epochs)
        if not count:
            return
        found = class_scores.read_labelled(self.data, self._shape(), count, self.seed)
        if found is None:
            return
        score_now = class_scores.scorer_of(self.model.online.backbone, found)
        is_new = not self._step()
        if is_new or "classes" not in self._pictures:
            baselines = {class_scores.PIXELS: class_scores.score_of_pixels(found)}
            if is_new:
                baselines[class_scores.START] = score_now()
            images = len(found.labels)
            scores = {"images": images, "baselines": baselines, "readings": []}
            self._keep(classes=scores)
        self._score_now = score_now

    def _score(self, progress):
        scores = self._pictures["classes"]
        if not class_scores.is_due(scores["readings"], progress):
            return
        reading = [self._step(), progress, self._score_now()]
        self._keep(classes=scores | {"readings": [*scores["readings"], reading]})
        if found := verdicts.of_classes(read_run(self.folder)):
            print(" ".join(found))

    def _shape(self):
        return self.views.shape(self.data) if self.views else _stored_shape(self.data)

    def _show_augmentations(self):
        from byol_keras.report import pictures

        count = min(_SHOWN_IMAGES, self.data.num_examples)
        sheet = pictures.augmentation_sheet(
            self.views, self.data, self.seed, self.pass_length, count
        )
        self._keep(augmentations=sheet)

    def _show_representation(self):
        from byol_keras.report import pictures, representation

        sample = representation.take_sample(
            self.model.online.backbone,
            self.data,
            self._shape(),
            self.images,
            pictures=_SHOWN_IMAGES,
            seed=self.seed,
        )
        names = self.data.class_names
        # A picture of an earlier step must not be shown as one of this step.
        for name in _OPTIONAL:
            self._pictures.pop(name, None)
        self._keep(spectrum=pictures.spectrum_of(sample), step=self._step())
        if sample.activations is not None:
            self._keep(activations=pictures.activation_maps(sample))
        self._keep(neighbours=pictures.gallery(sample, names, self.seed))
        self._keep(map=pictures.embedding_map(sample, names, self.seed))

    def _step(self):
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _keep(self, **found):
        self._pictures |= found
        write_pictures(self.folder, self._pictures)


def rewrite_page(folder: str | os.PathLike) -> None:
    """Rewrites the page of a run folder, if there is one.

    On an error a warning is logged.
    """
    path = RunFolder(folder).report
    if path.exists() and not missing_libraries():
        _safely("report", lambda: _write_page(path))


def missing_libraries() -> list[str]:
    """The packages of `LIBRARIES` that are not installed."""
    return [name for name in LIBRARIES if importlib.util.find_spec(name) is None]


def how_to_install() -> str:
    """The command that installs the packages of the report."""
    return 'pip install "byol-keras[report]"'


def _write_page(path):
    # Imported here, since training does not need the packages of a page.
    from byol_keras.report import page

    page.write_page([path.parent], path)


def _safely(what, function):
    """Calls a function, and logs any error: the report must not end a run."""
    try:
        function()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        logger = logging.getLogger("byol_keras")
        logger.warning("%s could not be made: %s", what, reason)


def _stored_shape(data):
    if data.image_size is None:
        raise ValueError(
            f"views must be given for data of different sizes. Received: {data.name}"
        )
    return (*data.image_size, data.channels)
