"""Every command and example of README.md and docs/ works as its page says.

The blocks of a page run one after another, in a folder like a checkout:

- python: all blocks of a page share one namespace. A block that begins with `# name.py`
  is written to that file and imported as a module.
- gin: a block that begins with `# name.gin` is written to that file, for the commands
  below it. A block that no command names is added to the quickstart for a dry run.
- bash: each line is a command. It runs with the changes of its row in `COMMANDS`, or is
  skipped for a reason in `NOT_RUN`. A command without a row fails. The output must
  contain the lines of a text block below it.

A block of README.md that is also in docs/ runs only for the page in docs/.
"""

import importlib
import importlib.util
import re
import shlex

import gin
import keras
import numpy as np
import pytest
import tensorflow as tf

import byol_keras
from byol_keras import train
from byol_keras.config import parse
from byol_keras.interop.files import read_file
from byol_keras.training import rules

from support import wording
from support.docs import (
    ALL,
    BLOCKS,
    COMMANDS,
    DOCS,
    NOT_RUN,
    PAGES,
    QUICKSTART,
    README,
    ROOT,
    SMALL_RUN,
    WRITTEN,
    Change,
    change_of,
    expand,
    folders_with,
    is_named_by_command,
    is_shown_by_docs,
    name_in_repository,
    reason,
)
from support.models import torch_weights, write_torch_zip
from support.processes import command_line
from support.runs import write_run

KINDS = {"", "bash", "gin", "python", "text", "yaml"}
MOST_LINES = {"README.md": 220}  # of the others 160
GIN_FOLDERS = folders_with(".gin", "gin", "experiments", "tests")
PYTHON_FOLDERS = folders_with(".py", "byol_keras", "experiments", "tests")
# They hold the banned phrases themselves.
ABOUT_PHRASES = (
    ROOT / "tests/support/wording.py",
    ROOT / "tests/support/test_wording.py",
)
# Pages with code, grouped by the test that runs them.
WITHOUT_RUN = ("README.md", "recipes.md")
ON_QUICKSTART = ("benchmarks.md", "extending.md")
OWN_DATA = ("your_own_data.md", "trained_weights.md")
BY_THEMSELVES = ("exports.md", "report.md", "runs.md", *OWN_DATA)


# --- Without running commands ---------------------------------------------------------


@pytest.mark.parametrize("page", BLOCKS)
def test_every_command_of_a_page_has_a_row(page):
    for block in BLOCKS[page]:
        assert block.kind in KINDS
        if block.kind == "bash":
            for command in block.commands:
                assert reason(command) or change_of(command)
        elif block.kind == "yaml":
            assert reason(block.text)
        elif block.kind in ("", "text"):
            assert "python -m" not in block.text, "a command must be in a block of bash"


def test_every_row_and_reason_fits_a_command_of_a_page():
    shown = [command for block in ALL for command in block.commands]
    for change in COMMANDS:
        assert any(change.fits(command) for command in shown), change
    for part in NOT_RUN:
        assert any(part in command for command in shown), part


def test_command_without_a_row_fails():
    with pytest.raises(AssertionError, match="rows of COMMANDS"):
        change_of("python -m byol_keras.train --gin_file=other.gin")


def test_every_page_with_code_has_a_test_that_runs_it():
    found = {
        block.page
        for block in ALL
        if block.kind in ("bash", "python") and not all(map(reason, block.commands))
    }
    assert found == {*WITHOUT_RUN, *ON_QUICKSTART, *BY_THEMSELVES}


@pytest.mark.parametrize("page", WRITTEN, ids=name_in_repository)
def test_links_lead_to_files_and_headings(page):
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if link.startswith("https://"):
            continue
        path, _, heading = link.partition("#")
        target = page.parent / path if path else page
        assert target.resolve().is_file(), link
        headings = re.findall(r"^#+ (.*)$", target.read_text(), re.M) if heading else []
        slugs = [re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in headings]
        assert not heading or heading in slugs, link


@pytest.mark.parametrize("page", PAGES, ids=BLOCKS)
def test_files_that_a_page_names_exist(page):
    text = page.read_text()
    paths = r"(?:gin|byol_keras|tests|experiments|docs)/[\w./-]+\.\w+"
    for path in re.findall(paths, text):
        assert (ROOT / path).exists(), path
    own = {block.file for block in BLOCKS[page.name]}
    for name in re.findall(r"`([\w{},*.-]+\.gin)`", text):
        for expanded in expand(name):
            assert name in own or [*ROOT.glob(f"gin/*/{expanded}")], expanded


def test_readme_links_every_page_of_the_documentation():
    _, _, section = README.read_text().partition("## Documentation\n")
    section, _, _ = section.partition("\n## ")
    assert re.findall(r"^\| \[.*\]\((docs/\w+\.md)\)", section, re.M)
    for page in DOCS:
        assert f"(docs/{page.name})" in section, page.name


def test_benchmarks_page_lists_every_gin_file():
    benchmarks = (ROOT / "docs/benchmarks.md").read_text()
    for path in ROOT.glob("gin/benchmarks/*.gin"):
        assert f"`{path.name}`" in benchmarks, path.name


def test_files_page_maps_the_first_level_of_the_package():
    (tree,) = (block.text for block in BLOCKS["files.md"])
    mapped = re.findall(r"^  (\S+) ", tree, re.M)
    modules = [path.name for path in ROOT.glob("byol_keras/[!_]*.py")]
    rooms = [f"{path.parent.name}/" for path in ROOT.glob("byol_keras/*/__init__.py")]
    assert sorted(mapped) == sorted(modules + rooms)
    _, _, order = (ROOT / "docs/files.md").read_text().partition("## Reading order")
    order, _, _ = order.partition("\n## ")
    modules_in_order = re.findall(r"`([\w/]+\.py)`", order)
    assert modules_in_order
    for name in modules_in_order:
        assert (ROOT / "byol_keras" / name).exists(), name


def test_pages_are_short_and_examples_of_the_readme_have_ten_lines():
    for page in PAGES:
        assert len(page.read_text().splitlines()) <= MOST_LINES.get(page.name, 160)
    examples = [block for block in BLOCKS["README.md"] if block.kind == "python"]
    assert len(examples) == 3
    for block in examples:
        assert len([line for line in block.text.splitlines() if line.strip()]) <= 10
        assert reason(block.text) or is_shown_by_docs(block)


@pytest.mark.parametrize("page", WRITTEN, ids=name_in_repository)
def test_page_uses_no_banned_phrase(page):
    assert wording.in_text(page.read_text()) == []


@pytest.mark.parametrize("folder", GIN_FOLDERS, ids=name_in_repository)
def test_comments_of_gin_files_use_no_banned_phrase(folder):
    found = {
        path.name: wording.in_gin(path.read_text()) for path in folder.glob("*.gin")
    }
    assert {name: phrases for name, phrases in found.items() if phrases} == {}


@pytest.mark.parametrize("folder", PYTHON_FOLDERS, ids=name_in_repository)
def test_docstrings_messages_and_test_names_use_no_banned_phrase(folder):
    found = [
        f"{name_in_repository(path)}:{phrase.line}: {phrase.words}"
        for path in sorted(folder.glob("*.py"))
        if path not in ABOUT_PHRASES
        for phrase in wording.in_python(path.read_text())
    ]
    assert not found, "\n".join(found)


# --- Running commands -----------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """A folder like a checkout, with images in DIR, weights in FILE, and a run."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("gin", "experiments", "tests"):
        (folder / name).symlink_to(ROOT / name)
    rng = np.random.default_rng(0)
    for number in range(64):
        kind = f"{('train', 'test')[number % 2]}/{'ab'[number % 4 // 2]}"
        blocks = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(20, 0).repeat(20, 1)
        path = folder / "DIR" / kind / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(tf.io.encode_png(blocks).numpy())
    write_torch_zip(folder / "FILE", torch_weights(18, 4))
    write_run(folder / "runs/other")
    for block in ALL:
        if block.file:
            (folder / block.file).write_text(block.text)
    return folder


@pytest.fixture(scope="module")
def shell(checkout):
    """Runs a changed command with this interpreter and returns its output."""

    def run(command, change):
        for text, other in change.replaces:
            command = command.replace(text, other)
        python, option, module, *words = shlex.split(command)
        assert (python, option) == ("python", "-m")
        words += [f"--gin_param={binding}" for binding in change.adds]
        done = command_line(module.removeprefix("byol_keras."), *words, cwd=checkout)
        printed = done.stdout + done.stderr
        assert done.returncode == change.code, printed
        assert change.prints in printed
        return printed

    return run


@pytest.fixture(scope="module")
def quickstart(shell):
    """Trains the quickstart on few images into runs/quickstart."""
    few = 'clothing_small.split = "train[:640]"'
    shell(
        f"python -m byol_keras.train --gin_file={QUICKSTART} "
        "--model_dir=runs/quickstart",
        Change("train", adds=(*SMALL_RUN, "warmup_cosine.warmup_epochs = 1", few)),
    )


def run_page(name, folder, monkeypatch, shell=None):
    """Runs the blocks of a page and returns the names that its Python code defines."""
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    names, printed = {}, ""
    for block in BLOCKS[name]:
        if is_shown_by_docs(block) or (block.kind == "python" and reason(block.text)):
            continue
        if block.kind == "python" and block.file:
            # Only once per process: gin and Keras register a name only once.
            importlib.import_module(block.file.removesuffix(".py"))
        elif block.kind == "python":
            exec(compile(block.text, name, "exec"), names)
        elif block.kind == "bash":
            printed = ""
            for command in block.commands:
                change = None if reason(command) else change_of(command)
                if change and importlib.util.find_spec(change.needs):
                    printed += shell(command, change)
        elif block.kind == "text":
            for line in block.text.splitlines():
                assert line in printed.splitlines(), line
    return names


@pytest.mark.slow
def test_doctor_of_the_runs_page_calls_a_short_run_healthy(checkout, monkeypatch):
    names = run_page("runs.md", checkout, monkeypatch)
    assert names["doctor"].verdict == "healthy"
    assert names["model"].optimizer.iterations.numpy() == 10


BINDINGS = [
    b for b in ALL if b.kind == "gin" and not (b.file and is_named_by_command(b))
]


@pytest.mark.parametrize("block", BINDINGS, ids=lambda b: b.text.split("\n")[0])
def test_bindings_without_a_command_build_a_run(block, checkout, monkeypatch, capsys):
    monkeypatch.chdir(checkout)
    byol_keras.resnet18(3, 0.0625, "small").save("backbone.keras")
    (checkout / "shown.gin").write_text(block.text)
    gin.clear_config()
    parse.parse_gin([QUICKSTART, "shown.gin"], [])
    rules.check_configuration()
    train.train(None, strategy="cpu", dry_run=True)
    assert "5214 = 120 epochs" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", WITHOUT_RUN)
def test_commands_that_need_no_run_work(name, checkout, shell, monkeypatch):
    run_page(name, checkout, monkeypatch, shell)


@pytest.mark.slow
@pytest.mark.parametrize("name", ON_QUICKSTART)
def test_commands_on_the_quickstart_work(
    name, checkout, shell, quickstart, monkeypatch
):
    run_page(name, checkout, monkeypatch, shell)


@pytest.mark.slow
def test_report_page_compares_two_runs(checkout, shell, quickstart, monkeypatch):
    pytest.importorskip("jinja2")
    run_page("report.md", checkout, monkeypatch, shell)
    assert "2 runs compared" in (checkout / "both.html").read_text()


@pytest.mark.slow
def test_exports_page_serves_fine_tunes_and_converts(
    checkout, shell, quickstart, monkeypatch
):
    pytest.importorskip("safetensors")
    keras.utils.set_random_seed(0)  # for the head that the page builds
    names = run_page("exports.md", checkout, monkeypatch, shell)
    assert names["features"]["avgpool"].shape == (2, 32)
    assert -1.0 <= float(names["tf"].reduce_sum(names["first"] * names["second"])) <= 1
    history = names["model"].history.history
    assert history["loss"][-1] < history["loss"][0]
    assert history["accuracy"][-1] > 0.25  # the most frequent class: 0.25
    weights = torch_weights(18, 4)
    for name, value in read_file(checkout / "FILE.safetensors").arrays.items():
        np.testing.assert_array_equal(value, weights[name])


@pytest.mark.slow
def test_own_images_are_trained_on_previewed_embedded_searched_and_continued(
    checkout, shell, monkeypatch
):
    pytest.importorskip("matplotlib")
    names = run_page("your_own_data.md", checkout, monkeypatch, shell)
    assert names["features"].shape == (64, 32)
    assert names["paths"][0] == "test/a/1.png"
    for file in ("preview.png", "preview.json", "nearest.png", "report.json"):
        assert (checkout / file).exists(), file
    run_page("trained_weights.md", checkout, monkeypatch, shell)
    assert (checkout / "runs/continued/export/backbone.keras").exists()
