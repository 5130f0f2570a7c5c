import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.callbacks import RunPosition
from byol_keras.monitoring.logs import MetricsLog, Progress, TensorLogs

from support.runs import metrics, tensorboard_scalars


def position_in_epoch_4(step=0, epochs=4, total_steps=100):
    position = RunPosition([total_steps] * epochs, step)
    position.epoch = 3
    return position


def log_steps(folder, steps, first_step=0, every_steps=2, epoch_logs=None, end=True):
    """Drives the callback as `fit` does, through one epoch; loss is 0.5 * step."""
    position = position_in_epoch_4(first_step)
    log = MetricsLog(folder, position, batch_size=16, every_steps=every_steps)
    log.on_train_begin()
    log.on_epoch_begin(3)
    for _ in range(steps):
        position.step += 1
        logs = {"loss": 0.5 * position.step, "tau": tf.constant(0.75, tf.float64)}
        log.on_train_batch_end(0, {**logs, "learning_rate": 0.25})
    if end:
        log.on_epoch_end(3, epoch_logs)
        log.on_train_end()
    return log


def test_every_nth_step_is_one_json_line_with_all_quantities(tmp_path):
    log_steps(tmp_path / "run", steps=5)
    written = metrics(tmp_path / "run")
    rates = [line.pop("images_per_second") for line in written]
    assert min(rates) > 0.0
    expected = {"epoch": 4, "tau": 0.75, "learning_rate": 0.25}
    assert written == [
        {"step": 2, "loss": 1.0, **expected},
        {"step": 4, "loss": 2.0, **expected},
    ]


def test_logs_of_a_step_reach_callbacks_as_tensors_and_history_as_numbers():
    class Keep(keras.callbacks.Callback):
        async_safe = False

        def on_train_batch_end(self, batch, logs=None):
            self.logs = dict(logs)
            logs["added"] = 1.0

    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    keep = Keep()
    callbacks = TensorLogs([keep], model, epochs=1, steps=1)
    history = model.fit(np.ones((4, 2)), np.ones(4), verbose=0, callbacks=callbacks)
    assert tf.is_tensor(keep.logs["loss"])
    assert list(history.history) == ["loss"]
    assert history.history["loss"] == [pytest.approx(float(keep.logs["loss"]))]


def test_images_per_second_is_batch_size_times_steps_over_time(tmp_path, monkeypatch):
    clock = iter([10.0, 12.0, 20.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    log_steps(tmp_path, steps=4)
    assert [line["images_per_second"] for line in metrics(tmp_path)] == [16.0, 4.0]


def test_benchmarks_of_an_epoch_have_their_own_line(tmp_path):
    log_steps(tmp_path, 2, epoch_logs={"loss": 7.0, "knn/top1_k20": 81.5})
    assert metrics(tmp_path)[1:] == [{"step": 2, "epoch": 4, "knn/top1_k20": 81.5}]


def test_resumed_run_drops_the_lines_of_steps_that_it_repeats(tmp_path):
    log_steps(tmp_path, steps=8)
    log_steps(tmp_path, steps=4, first_step=4, every_steps=1)
    assert [line["step"] for line in metrics(tmp_path)] == [2, 4, 5, 6, 7, 8]


def test_last_line_that_a_crash_cut_short_is_dropped(tmp_path):
    log_steps(tmp_path, steps=4)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    log_steps(tmp_path, steps=2, first_step=6)
    assert [line["step"] for line in metrics(tmp_path)] == [2, 4, 8]


def test_tensorboard_shows_the_same_scalars(tmp_path):
    log_steps(tmp_path, steps=4, epoch_logs={"knn/top1_k20": 81.5})
    assert tensorboard_scalars(tmp_path) == [(2, 1.0), (4, 2.0)]
    assert tensorboard_scalars(tmp_path, "knn/top1_k20") == [(4, 81.5)]


def test_tensorboard_shows_every_step_once_after_a_resume(tmp_path):
    log_steps(tmp_path, steps=8)
    log_steps(tmp_path, steps=4, first_step=4)
    expected = [(2, 1.0), (4, 2.0), (6, 3.0), (8, 4.0)]
    assert tensorboard_scalars(tmp_path) == expected


def test_tensorboard_drops_steps_that_a_resumed_run_has_not_reached_yet(tmp_path):
    log_steps(tmp_path, steps=8, epoch_logs={"knn/top1_k20": 81.5})
    log_steps(tmp_path, steps=1, first_step=3)
    assert tensorboard_scalars(tmp_path) == [(2, 1.0), (4, 2.0)]


def test_event_that_a_crash_has_truncated_hides_no_other(tmp_path):
    log_steps(tmp_path, steps=6)
    (path,) = (tmp_path / "logs").iterdir()
    path.write_bytes(path.read_bytes()[:-5])
    log_steps(tmp_path, steps=4, first_step=4)
    expected = [(2, 1.0), (4, 2.0), (6, 3.0), (8, 4.0)]
    assert tensorboard_scalars(tmp_path) == expected


def test_lines_and_events_of_a_run_that_is_killed_are_on_the_disk(tmp_path):
    log = log_steps(tmp_path, steps=4, end=False)
    assert [line["step"] for line in metrics(tmp_path)] == [2, 4]
    assert tensorboard_scalars(tmp_path) == [(2, 1.0), (4, 2.0)]
    log.on_train_end()


def progress_bar(step=0, total_steps=6):
    position = position_in_epoch_4(step, total_steps=total_steps)
    return Progress(position, batch_size=16, every_steps=2), position


@pytest.mark.parametrize("first_step", [0, 2])
def test_progress_shows_epoch_step_loss_and_speed(capsys, monkeypatch, first_step):
    monkeypatch.setenv("COLUMNS", "160")
    bar, position = progress_bar(first_step)
    with bar:
        bar.on_epoch_begin(2)
        for _ in range(4):
            position.step += 1
            bar.on_train_batch_end(0, {"loss": np.float32(0.125)})
        bar.on_epoch_end(2, {"loss": 0.25, "tau": 0.996})
    shown = capsys.readouterr().out
    assert "epoch 3/4  loss 0.25  tau 0.996" in shown
    assert f"{first_step + 4}/6" in shown
    assert "loss 0.125" in shown
    assert "images/s" in shown


def test_progress_speed_leaves_out_the_time_between_epochs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    bar, position = progress_bar(total_steps=4)
    with bar, monkeypatch.context() as patch:
        # Steps take 1 second; the first epoch ends at 2, the second begins at 1000.
        clock = iter([1.0, 2.0, 1001.0, 1002.0])
        patch.setattr(
            "byol_keras.monitoring.logs.time.perf_counter", lambda: next(clock)
        )
        for epoch in range(2):
            bar.on_epoch_begin(epoch)
            for _ in range(2):
                position.step += 1
                bar.on_train_batch_end(0, {"loss": 0.125})
    assert "loss 0.125  16 images/s" in capsys.readouterr().out
