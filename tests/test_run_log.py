import json

import numpy as np
import pytest
import tensorflow as tf

from byol_keras.run_log import MetricsLog, Progress


def log_steps(folder, steps, first_step=0, every_steps=2, epoch_logs=None):
    """Drives the callback as `fit` does, through one epoch; loss is 0.5 * step."""
    log = MetricsLog(folder, first_step, batch_size=16, every_steps=every_steps)
    log.on_train_begin()
    log.on_epoch_begin(3)
    for step in range(first_step + 1, first_step + steps + 1):
        logs = {"loss": 0.5 * step, "tau": tf.constant(0.75, tf.float64)}
        log.on_train_batch_end(step - first_step - 1, {**logs, "learning_rate": 0.25})
    log.on_epoch_end(3, epoch_logs)
    log.on_train_end()


def lines(folder):
    text = (folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_every_nth_step_is_one_json_line_with_all_quantities(tmp_path):
    log_steps(tmp_path / "run", steps=5)
    written = lines(tmp_path / "run")
    rates = [line.pop("images_per_second") for line in written]
    assert min(rates) > 0.0
    expected = {"epoch": 4, "tau": 0.75, "learning_rate": 0.25}
    assert written == [
        {"step": 2, "loss": 1.0, **expected},
        {"step": 4, "loss": 2.0, **expected},
    ]


def test_images_per_second_is_batch_size_times_steps_over_time(tmp_path, monkeypatch):
    clock = iter([10.0, 12.0, 20.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    log_steps(tmp_path, steps=4)
    assert [line["images_per_second"] for line in lines(tmp_path)] == [16.0, 4.0]


def test_benchmarks_of_an_epoch_get_a_line_of_their_own(tmp_path):
    log_steps(tmp_path, 2, epoch_logs={"loss": 7.0, "knn/top1_k20": 81.5})
    assert lines(tmp_path)[1:] == [{"step": 2, "epoch": 4, "knn/top1_k20": 81.5}]


def test_resumed_run_drops_the_lines_of_steps_that_it_repeats(tmp_path):
    log_steps(tmp_path, steps=8)
    log_steps(tmp_path, steps=4, first_step=4, every_steps=1)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 5, 6, 7, 8]


def test_last_line_that_a_crash_cut_short_is_dropped(tmp_path):
    log_steps(tmp_path, steps=4)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "lo')
    log_steps(tmp_path, steps=2, first_step=6)
    assert [line["step"] for line in lines(tmp_path)] == [2, 4, 8]


def test_tensorboard_gets_the_same_scalars(tmp_path):
    log_steps(tmp_path, steps=4)
    (path,) = (tmp_path / "logs").iterdir()
    losses = {}
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        for value in event.summary.value:
            assert value.metadata.plugin_data.plugin_name == "scalars"
            if value.tag == "loss":
                losses[event.step] = float(tf.make_ndarray(value.tensor))
    assert losses == {2: 1.0, 4: 2.0}


@pytest.mark.parametrize("first_step", [0, 2])
def test_progress_shows_epoch_step_loss_and_speed(capsys, monkeypatch, first_step):
    monkeypatch.setenv("COLUMNS", "160")
    bar = Progress(
        total_steps=6, first_step=first_step, batch_size=16, every_steps=2, epochs=4
    )
    bar.on_train_begin()
    bar.on_epoch_begin(2)
    for step in range(4):
        bar.on_train_batch_end(step, {"loss": np.float32(0.125)})
    bar.on_epoch_end(2, {"loss": 0.25, "tau": 0.996})
    bar.on_train_end()
    shown = capsys.readouterr().out
    assert "epoch 3/4  loss 0.25  tau 0.996" in shown
    assert f"{first_step + 4}/6" in shown
    assert "loss 0.125" in shown
    assert "images/s" in shown


def test_progress_speed_leaves_out_the_time_between_epochs(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    bar = Progress(total_steps=4, first_step=0, batch_size=16, every_steps=2, epochs=2)
    bar.on_train_begin()
    # Steps take 1 second; the first epoch ends at 2, the second begins at 1000.
    clock = iter([1.0, 2.0, 1001.0, 1002.0])
    with monkeypatch.context() as patch:
        patch.setattr("byol_keras.run_log.time.perf_counter", lambda: next(clock))
        for epoch in range(2):
            bar.on_epoch_begin(epoch)
            for step in range(2):
                bar.on_train_batch_end(step, {"loss": 0.125})
    bar.on_train_end()
    assert "loss 0.125  16 images/s" in capsys.readouterr().out
