"""What several workers read, and that they train as one."""

import signal
import socket
import time

import keras
import numpy as np
import pytest
import tensorflow as tf

from byol_keras.runtime import workers

from support.datasets import BATCH, make_arrays, small_views
from support.processes import ForkServer
from support.runs import untimed_metrics


@pytest.mark.parametrize(
    "strategy_fn",
    [tf.distribute.get_strategy, lambda: tf.distribute.OneDeviceStrategy("CPU:0")],
)
def test_one_process_writes_agrees_with_itself_and_reads_all(strategy_fn):
    strategy = strategy_fn()
    assert workers.is_chief(strategy)
    assert not workers.are_several(strategy)
    workers.require_same(strategy, step=3)
    made = workers.distribute(strategy, "data", BATCH, lambda *arguments: arguments)
    assert made == ("data", BATCH)


def test_sum_over_replicas_is_read_without_communication():
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        metric = keras.metrics.Mean()

    @tf.function
    def update():
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        metric.update_state(tf.cast(replica, tf.float32) + 1.0)

    strategy.run(update)
    assert [workers.value_here(variable) for variable in metric.variables] == [3.0, 2.0]
    assert workers.value_here(keras.Variable(2.0)) == 2.0


# --- Two processes --------------------------------------------------------------------

RECIPE = (
    "train.epochs = 4",
    "train.callbacks = [@BenchmarkEachEpochs, @OnlineProbe]",
    "BenchmarkEachEpochs.benchmarks = [@mean_feature]",
    "OnlineProbe.data = @fashion_mnist_small()",
    "OnlineProbe.batch_size = 16",
    "CollapseDoctor.every_steps = 4",
    "Checkpoints.every_steps = 1",
    "Checkpoints.keep = 100",
)
TOTAL_STEPS = 10


@pytest.fixture(scope="module")
def servers():
    with ForkServer() as first, ForkServer() as second:
        yield first, second


def free_port():
    with socket.socket() as server:
        server.bind(("localhost", 0))
        return server.getsockname()[1]


def start(servers, folder, *bindings, options=({}, {}), **common):
    """Starts two workers on this machine."""
    cluster = {"worker": [f"localhost:{free_port()}" for _ in servers]}
    for index, (server, own) in enumerate(zip(servers, options, strict=True)):
        task = {"type": "worker", "index": index}
        server.start(
            folder,
            *bindings,
            name=f"worker{index}",
            strategy="multiworker",
            tf_config={"cluster": cluster, "task": task},
            **common,
            **own,
        )


@pytest.mark.slow
def test_two_workers_get_disjoint_parts_that_together_are_the_batch(servers, tmp_path):
    start(servers, tmp_path / "batches", call="record_batches")
    for server in servers:
        code, output = server.wait()
        assert code == 0, output
        assert "Received: different worker;" in output
    parts = [np.load(tmp_path / f"batches.{index}.npy") for index in range(2)]
    source = make_arrays(num_examples=20)
    whole = small_views().dataset(source, BATCH, seed=0, start=BATCH)
    batches = [view1.numpy() for view1, _ in whole.take(3)]
    for batch, *halves in zip(batches, *parts, strict=True):
        assert not np.array_equal(*halves)
        np.testing.assert_array_equal(batch, np.concatenate(halves))


def weights(folder):
    return keras.models.load_model(folder / "export/backbone.keras").get_weights()


def assert_close(folder, expected):
    """Weights to 1e-4; one line for each step and each end of an epoch.

    Gradients differ in their last bits, which ten steps multiply.
    """
    for array, other in zip(weights(folder), weights(expected), strict=True):
        np.testing.assert_allclose(array, other, rtol=0.0, atol=1e-4)
    pairs = zip(untimed_metrics(folder), untimed_metrics(expected), strict=True)
    for line, other in pairs:
        assert line == pytest.approx(other, abs=1e-3)


@pytest.fixture(scope="module")
def two_devices(servers, tmp_path_factory):
    """One process with two logical devices."""
    folder = tmp_path_factory.mktemp("two_devices") / "run"
    code, output = servers[0].run(folder, *RECIPE, devices=2, strategy="mirrored")
    assert code == 0, output
    return folder


@pytest.mark.slow
def test_two_workers_train_as_one_process_with_two_devices(
    servers, two_devices, tmp_path
):
    folder = tmp_path / "run"
    start(servers, folder, *RECIPE, "train.report_fn = @Report")
    for server in servers:
        code, output = server.wait()
        assert code == 0, output
    assert_close(folder, two_devices)
    assert "</html>" in (folder / "report.html").read_text()
    # The second one is silent, and has written nothing of its own.
    assert "epoch" not in (tmp_path / "run.worker1.log").read_text()
    assert len(list((folder / "logs").iterdir())) == 1


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1], ids=["chief", "other"])
def test_when_a_worker_dies_the_other_says_so_and_both_resume(
    servers, two_devices, tmp_path, killed
):
    folder = tmp_path / "run"
    options = [{}, {}]
    options[killed] = {"kill": {"moment": "in step", "step": 4, "seconds": 0.0}}
    start(servers, folder, *RECIPE, options=options)
    code, output = servers[killed].wait()
    assert code == -signal.SIGKILL, output
    death = time.monotonic()
    code, output = servers[1 - killed].wait()
    assert time.monotonic() - death < 60.0
    assert code == 1, output
    assert "error: another worker has left; on all of them, the same command" in output
    steps = sorted(path.name for path in (folder / "checkpoints").glob("*.npz"))
    assert 1 <= len(steps) <= 4
    start(servers, folder, *RECIPE)
    for server in servers:
        code, output = server.wait()
        assert code == 0, output
    assert_close(folder, two_devices)


@pytest.mark.slow
def test_sigterm_to_all_workers_saves_the_step_and_both_resume(
    servers, two_devices, tmp_path
):
    folder = tmp_path / "run"
    bindings = (*RECIPE, "Checkpoints.every_steps = None")
    kill = {"moment": "in step", "step": 4, "seconds": 0.0}
    kill |= {"number": int(signal.SIGTERM)}
    start(servers, folder, *bindings, kill=kill)
    assert [server.wait()[0] for server in servers] == [143, 143]
    assert "is saved; the same command" in (tmp_path / "run.worker0.log").read_text()
    assert max((folder / "checkpoints").glob("*.npz")).name == "step_000000004.npz"
    start(servers, folder, *bindings)
    for server in servers:
        code, output = server.wait()
        assert code == 0, output
    assert_close(folder, two_devices)
