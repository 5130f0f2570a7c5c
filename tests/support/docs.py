"""Code blocks of README.md and docs/, and smaller versions of their commands.

test_docs.py runs them.
"""

import re
from typing import NamedTuple

from support import ROOT

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *DOCS]
WRITTEN = [
    *PAGES,
    *sorted((ROOT / "experiments").rglob("README.md")),
    ROOT / "byol_keras/data/assets/README.md",
]
QUICKSTART = "gin/pretrain/quickstart.gin"


class Block(NamedTuple):
    """A fenced block of a page."""

    page: str
    kind: str
    text: str

    @property
    def file(self):
        """The name in its first line, or None."""
        found = re.match(r"# (\w+\.\w+)\n", self.text)
        return found and found[1]

    @property
    def commands(self):
        """The lines of a bash block; a script or another block is one command."""
        if self.kind != "bash" or self.text.startswith("#!"):
            return [self.text]
        return self.text.strip().splitlines()


def blocks_of(page):
    found = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.M)
    return [Block(page.name, kind, text) for kind, text in found]


BLOCKS = {page.name: blocks_of(page) for page in PAGES}
ALL = [block for blocks in BLOCKS.values() for block in blocks]


class Change(NamedTuple):
    """Changes that make a command small.

    Args:
        begins: start of the command, after `python -m byol_keras.`.
        names: a part of the command that no other command has.
        adds: additional bindings.
        replaces: pairs of a text and its replacement.
        code: expected exit code.
        prints: text that the output must contain.
        needs: module of an extra; without it the command is skipped.
    """

    begins: str
    names: str = ""
    adds: tuple = ()
    replaces: tuple = ()
    code: int = 0
    prints: str = ""
    needs: str = "keras"

    def fits(self, command):
        return (
            command.startswith(f"python -m byol_keras.{self.begins} ")
            and self.names in command
        )


NARROW = ("resnet18.width = 0.0625", "BYOL.hidden_units = 64")
FEW = (
    'train/clothing_small.split = "train[:500]"',
    'test/clothing_small.split = "test[:100]"',
)
WATCHED_BY_NONE = tuple(f"train.{n}_fn = None" for n in ("doctor", "guard", "report"))
SMALL_RUN = ("train.epochs = 2", *WATCHED_BY_NONE, *NARROW)
OWN_RUN = ("train.batch_size = 32", "warmup_cosine.warmup_epochs = 1", *SMALL_RUN)
# The same heads as those of OWN_RUN.
ON_OWN_RUN = (
    *("train.batch_size = 32", "train.epochs = 3", "warmup_cosine.warmup_epochs = 1"),
    *("BYOL.hidden_units = 64", *WATCHED_BY_NONE),
)
WRONG = "train.batch_size=-1"

COMMANDS = (
    Change(
        "train",
        "image_folder_resnet18.gin --gin_param='image_folder.path=",
        OWN_RUN,
        prints="images in DIR: 64 images",
    ),
    Change(
        "train", "continue_image_folder", ON_OWN_RUN, prints="networks of runs/mine"
    ),
    Change(
        "train",
        "image_folder_from_weights",
        ON_OWN_RUN,
        (("imagenet.keras", "runs/mine/export"),),
        prints="heads at random",
    ),
    Change(
        "train",
        "image_folder_convnext_tiny",
        ("train.batch_size = 32", "BYOL.hidden_units = 64"),
        prints="backbone 927,008, projector",
    ),
    Change("train", "my_recipe.gin", ("train.batch_size = 16",), prints="x any x 1"),
    Change("train", "my_backbone.gin", prints="backbone 370,944, projector"),
    Change("train", '"train.epochs=5"', prints="217 = 5 epochs"),
    Change("train", '"train.epoch=5"', code=2),
    Change("train", WRONG, code=2),
    Change("preview", "image_folder", needs="matplotlib", prints="GaussianBlur"),
    Change("preview", "my_views.gin", needs="matplotlib", prints="RandomGamma"),
    Change("data_check", prints="│ test  │ 32"),
    Change("embed", "", replaces=(("=IMAGE", "=DIR/test/a/5.png"),)),
    Change(
        "benchmarks",
        "suite_small.gin",
        FEW,
        (("gin/benchmarks/suite_small", "fewer"),),
        prints="logistic",
        needs="sklearn",
    ),
    Change("benchmarks", "--backbone", FEW, prints="kNN k=20"),
    Change("benchmarks", "my_benchmark.gin", FEW, prints="centroids/top1"),
    Change("benchmarks", "knn_image_folder.gin", ("knn.k = (5,)",), prints="kNN k=5"),
    Change("export", "=onnx", needs="tf2onnx", prints="model.onnx"),
    Change("export", "=tflite", prints="model.tflite"),
    Change("interop", "=FILE ", needs="safetensors", prints="resnet18"),
    Change("interop", "FILE.safetensors", needs="safetensors", prints="100 tensors"),
    Change("report", "runs/other", needs="jinja2", prints="both.html"),
)

# A part of a command or block -> the reason why it does not run here.
NOT_RUN = {
    "python3 -m venv": "test_readme.py runs all of it but the installation",
    "model.fit(views, steps_per_epoch=20": "test_readme.py runs it",
    "bash tests/run": "it runs these tests",
    "pip install": "changes the environment that the tests run in",
    "python experiments/speed/run_all.py": "takes half an hour, alone",
    "#SBATCH": "needs SLURM and several machines",
    "apiVersion: batch/v1": "needs Kubernetes",
}


def reason(text):
    """The reason why a command or block does not run, or None."""
    return next((NOT_RUN[part] for part in NOT_RUN if part in text), None)


def change_of(command):
    found = [change for change in COMMANDS if change.fits(command)]
    assert len(found) == 1, f"rows of COMMANDS for {command!r}: {len(found)}"
    return found[0]


def is_shown_by_docs(block):
    """Whether a block of the README also is in a page of docs/, which runs it."""
    others = [other.text for other in ALL if other.page != "README.md"]
    return block.page == "README.md" and block.text in others


def is_named_by_command(block):
    """Whether a command of the page, original or changed, reads the file."""
    commands = [c for b in BLOCKS[block.page] if b.kind == "bash" for c in b.commands]
    changes = [change_of(command) for command in commands if not reason(command)]
    commands += [other for change in changes for _, other in change.replaces]
    return any(block.file.removesuffix(".gin") in command for command in commands)


def expand(name):
    """Expands `a_{1,2}.gin` like a shell."""
    found = re.search(r"\{([^}]+)\}", name)
    if not found:
        return [name]
    return [name.replace(found.group(), part) for part in found.group(1).split(",")]


def folders_with(suffix, *roots):
    """Folders below the roots that hold a file of this kind, sorted."""
    files = [path for root in roots for path in (ROOT / root).rglob(f"*{suffix}")]
    return sorted({path.parent for path in files})


def name_in_repository(path):
    """Path of a file or folder from the root, for the name of a test."""
    return path.relative_to(ROOT).as_posix()
