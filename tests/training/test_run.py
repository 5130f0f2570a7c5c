import keras
import pytest

from byol_keras import train  # noqa: F401, its gin bindings are part of a checkpoint
from byol_keras.checkpoints.run_lock import RunLock
from byol_keras.results import records, table
from byol_keras.runtime import cli
from byol_keras.runtime.run_folder import RunFolder
from byol_keras.training.run import EXIT_STOPPED, execute, repeat

from support.run_parts import build
from support.runs import metrics


class Watcher(keras.callbacks.Callback):
    """Stops the run after its first step."""

    async_safe = False
    stateless = True
    stopped = None

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        self.stopped = f"stopped after step {self.step}"
        self.model.stop_training = True


class LockProbe(keras.callbacks.Callback):
    """Notes whether the run folder can be locked while the run trains."""

    stateless = True

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def on_train_begin(self, logs=None):
        with pytest.raises(ValueError) as self.refused, RunLock(self.folder.lock):
            pass


def run_in(folder, **parts):
    """Executes a small run; returns the run and what it noted of its start."""
    noted = []

    def note_start(folder, step, total_steps):
        noted.append((step, total_steps))
        RunFolder(folder).environment.write_text("[{}]")

    run = build({"log_every_steps": 1}, folder, **parts)
    execute(run, folder, allow_config_change=False, note_start=note_start)
    return run, noted


def test_run_trains_to_its_end_and_exports(tmp_path):
    _, noted = run_in(tmp_path)
    assert noted == [(0, 8)]
    assert [line["step"] for line in metrics(tmp_path)] == [*range(1, 9)]
    folder = RunFolder(tmp_path)
    assert folder.backbone.exists()
    assert folder.saved_model.is_dir()


def test_export_has_no_scores_of_earlier_weights(tmp_path):
    folder = RunFolder(tmp_path)
    folder.benchmarks.mkdir()
    scores, identity = {"trained": [{"knn/top1_k20": 81.55}]}, {"backbone": "earlier"}
    settings = {"seeds": [0], "baselines": []}
    record = records.make_record(scores, {}, identity | settings, seconds=0.0)
    records.write(folder.benchmarks, "knn", record)
    folder.benchmarks_table.write_text(table.markdown({"knn": record}))
    run_in(tmp_path)
    for path in (folder.model_card, folder.benchmarks_table):
        text = path.read_text()
        assert "No benchmark of these weights has been found." in text
        assert "81.55" not in text


def test_finished_run_is_not_trained_again(tmp_path, capsys):
    run_in(tmp_path)
    run, noted = run_in(tmp_path)
    assert noted == [(8, 8)]
    assert run.model.optimizer.iterations.numpy() == 8
    assert [line["step"] for line in metrics(tmp_path)] == [*range(1, 9)]
    assert "resuming at step 8 of 8" in capsys.readouterr().out


def test_folder_is_locked_while_the_run_trains_and_free_afterwards(tmp_path):
    probe = LockProbe(RunFolder(tmp_path))
    run_in(tmp_path, callbacks=[probe])
    assert "in use by another process" in str(probe.refused.value)
    with RunLock(RunFolder(tmp_path).lock):
        pass


def test_watcher_that_stops_the_run_prevents_the_export(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        run_in(tmp_path, guard_fn=lambda **_: Watcher())
    assert stop.value.code == EXIT_STOPPED
    assert "error: stopped after step 1" in capsys.readouterr().err
    assert not RunFolder(tmp_path).export.exists()


def test_folder_that_is_a_file_is_a_user_error(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        run_in(tmp_path / "file")
    assert stop.value.code == cli.EXIT_USER_ERROR
    assert "model_dir must be a folder" in capsys.readouterr().err


def test_repeated_step_shows_its_loss_and_changes_no_weight():
    run = build()
    before = run.model.get_weights()[0]
    shown = repeat(run, 3)
    assert run.position.step == 3
    assert shown.startswith("loss  ")
    assert (run.model.get_weights()[0] == before).all()
