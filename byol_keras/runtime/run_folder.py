"""Run folder: the path of every file that a run writes or reads."""

import os
import pathlib
import re

# Start of the names of folders with the results of other backbones than the run's.
_OTHER_BACKBONE = "backbone_"


class RunFolder:
    """Paths in the folder of one run. Creating the object touches no file.

    Args:
        path: of the folder, which need not exist.

    Attributes:
        path: `pathlib.Path` of the folder itself; the others are in it.
        config: the gin configuration as parsed.
        operative_config: the values that training used.
        environment: command, versions and machine of every start.
        lock: held by the process that trains in the folder.
        checkpoints: folder of the newest checkpoints and the best one.
        logs: folder of TensorBoard's event files.
        metrics: one JSON line per logged step.
        health: verdict and readings of the collapse doctor.
        bad_images: list of images that could not be read.
        export: folder of the exported networks.
        backbone, saved_model: the online backbone as `.keras` and as SavedModel.
        model_card: description of these two.
        benchmarks: folder of the benchmark results.
        benchmarks_table: all results as one Markdown table.
        features: folder of cached features.
        report: the HTML page.
        report_pictures: what the page shows of images.
    """

    def __init__(self, path: str | os.PathLike):
        check_local("model_dir", path)
        self.path = path = pathlib.Path(path)
        self.config = path / "config.gin"
        self.operative_config = path / "operative_config.gin"
        self.environment = path / "environment.json"
        self.lock = path / "run.lock"
        self.checkpoints = path / "checkpoints"
        self.logs = path / "logs"
        self.metrics = path / "metrics.jsonl"
        self.health = path / "health.json"
        self.bad_images = path / "bad_images.txt"
        self.export = path / "export"
        exported = ExportFolder(self.export)
        self.backbone = exported.backbone
        self.saved_model = exported.saved_model
        self.model_card = exported.model_card
        self.benchmarks = path / "benchmarks"
        self.benchmarks_table = BenchmarkFolder(self.benchmarks).table
        self.features = self.benchmarks / "features"
        self.report = path / "report.html"
        self.report_pictures = path / "report_pictures.json"

    def __fspath__(self) -> str:
        return str(self.path)

    def __str__(self) -> str:
        return str(self.path)

    @classmethod
    def make(cls, model_dir: str | os.PathLike | None) -> "RunFolder":
        """Creates the folder if it is missing.

        Raises:
            ValueError: if no folder is named, or it cannot be written.
        """
        check_model_dir(model_dir)
        folder = cls(model_dir)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ValueError(
                f"model_dir must be a folder that can be written. Received: {folder} "
                f"({error.strerror})"
            ) from error
        return folder

    def benchmark_folder(self, digest: str | None = None) -> "BenchmarkFolder":
        """The folder of benchmark results.

        Args:
            digest: None for the backbone of the run; else of another backbone, which
                has a folder of its own. See `export.digest.backbone_digest`.
        """
        if digest is None:
            return BenchmarkFolder(self.benchmarks)
        return BenchmarkFolder(self.benchmarks / f"{_OTHER_BACKBONE}{digest[:12]}")

    def benchmark_folders(self) -> list["BenchmarkFolder"]:
        """The folder of the run's backbone, then those of others, sorted by path."""
        found = sorted(self.benchmarks.glob(f"{_OTHER_BACKBONE}*"))
        others = [path for path in found if path.is_dir()]
        return [BenchmarkFolder(path) for path in (self.benchmarks, *others)]

    def exported(self, network: str, part: str, form: str) -> pathlib.Path:
        """The folder of a network that `python -m byol_keras.export` has written."""
        return self.export / f"{network}_{part}_{form}"

    def model_cards(self) -> list[pathlib.Path]:
        """The model cards of all exports, sorted by path."""
        return sorted(self.export.rglob(self.model_card.name))

    def dump(self, step: int) -> pathlib.Path:
        """The folder with the state before a step that was not finite."""
        return self.path / "nonfinite" / f"step_{step:09d}"

    def dump_report(self, step: int) -> pathlib.Path:
        """What is known of that step, as JSON."""
        return self.dump(step) / "report.json"

    def marks(self) -> tuple[pathlib.Path, ...]:
        """Files of which a run writes at least one before its first step ends."""
        return self.config, self.metrics, self.environment, self.health

    def has_run(self) -> bool:
        """Whether a run has written anything here that a report can show."""
        return any(mark.exists() for mark in self.marks()) or any(
            self.benchmark_folder().results()
        )


class BenchmarkFolder:
    """Paths in a folder of benchmark results.

    Args:
        path: of the folder, which need not exist.

    Attributes:
        path: `pathlib.Path` of the folder itself.
        table: the results as a Markdown table.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path = pathlib.Path(path)
        self.table = path / "table.md"

    def result(self, name: str) -> pathlib.Path:
        """The results of one benchmark, a JSON file."""
        return self.path / f"{name}.json"

    def results(self) -> list[pathlib.Path]:
        """The results of all benchmarks that have run, sorted by name."""
        return sorted(self.path.glob("*.json"))

    def output(self, name: str) -> pathlib.Path:
        """The folder of what else a benchmark writes: its checkpoints and pictures."""
        return self.path / name


class ExportFolder:
    """Paths in the folder of an exported backbone.

    Args:
        path: of the folder, which need not exist.

    Attributes:
        path: `pathlib.Path` of the folder itself.
        backbone: the `.keras` file.
        saved_model: folder of the SavedModel.
        model_card: description in Markdown.
        digests: what identifies the weights of the exported files, as JSON.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = path = pathlib.Path(path)
        self.backbone = path / "backbone.keras"
        self.saved_model = path / "saved_model"
        self.model_card = path / "MODEL_CARD.md"
        self.digests = path / "digests.json"


def check_local(name: str, path: str | os.PathLike) -> None:
    """Raises a `ValueError` if the argument `name` is a URL, as "gs://bucket/run".

    As a path it would name a local folder, "gs:".
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", os.fspath(path)):
        raise ValueError(
            f"{name} must be a local path; URLs are not supported. Received: {path}"
        )


def check_model_dir(model_dir: str | os.PathLike | None) -> None:
    """Raises a `ValueError` if no run folder is named, or a file or a URL instead."""
    if not model_dir:
        raise ValueError("model_dir must name the run folder. Received: none")
    check_local("model_dir", model_dir)
    path = pathlib.Path(model_dir)
    files = [p for p in (path, *path.parents) if p.exists() and not p.is_dir()]
    if files:
        raise ValueError(f"model_dir must be a folder. Received: {files[0]}, a file")
