import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from byol_keras.byol import BYOL
from byol_keras.callbacks import HeadWarmup, RunPosition, TargetEMA, target_tau

from support.small_byol import two_replicas

# --- The schedule of tau --------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_tau", "total_steps", "step", "tau"),
    [
        (0.996, 100, 0, 0.996),
        (0.996, 100, 1, 0.996000986879269),
        (0.996, 100, 25, 0.996585786437627),
        (0.996, 100, 50, 0.998),
        (0.996, 100, 99, 0.999999013120731),
        (0.996, 100, 100, 1.0),
        (0.99, 100, 0, 0.99),
        (0.99, 100, 1, 0.990002467198171),
        (0.99, 100, 25, 0.991464466094067),
        (0.99, 100, 50, 0.995),
        (0.99, 100, 99, 0.999997532801829),
        (0.996, 312784, 1, 0.996000000000101),
        (0.996, 312784, 1000, 0.996000100880456),
        (0.996, 312784, 100000, 0.996926805458635),
        (0.996, 312784, 156392, 0.998),
        (0.99, 93835, 1000, 0.990002802008639),
        (0.99, 93835, 46917, 0.994999916300084),
        (0.99, 62600, 0, 0.99),
        (0.99, 62600, 1, 0.990000000006296),
        (0.99, 62600, 3130, 0.990061558297024),
        (0.99, 62600, 31300, 0.995),
        (0.99, 1001000, 15, 0.990000000005541),
        (0.99, 1001000, 16 * 3127 + 15, 0.990061550932807),
        (0.99, 1001000, 16 * 31281 + 15, 0.995000172614981),
    ],
)
def test_tau_of_the_published_schedules(base_tau, total_steps, step, tau):
    actual = float(target_tau(step, total_steps, base_tau))
    assert actual == pytest.approx(tau, rel=0.0, abs=1e-12)


def test_tau_stays_1_after_the_end():
    np.testing.assert_array_equal(target_tau(np.array([10, 11, 20]), 10, 0.9), 1.0)


def test_tau_ends_at_the_final_one_and_is_constant_where_both_are_equal():
    ema = TargetEMA(0.9, total_steps=10, final_tau=0.96)
    found = [float(ema.tau(step)) for step in (0, 5, 10)]
    np.testing.assert_allclose(found, [0.9, 0.93, 0.96], atol=1e-12)
    constant = TargetEMA(0.0, total_steps=10, final_tau=0.0)
    assert not np.any(constant.tau(np.arange(12)))
    in_graph = tf.function(constant.tau)(tf.constant(3))
    assert f"{float(in_graph):.2g}" == "0"


def test_tau_is_raised_to_the_power_of_the_batch_size_over_the_reference():
    ema = TargetEMA(0.99, total_steps=100, reference_batch_size=256, batch_size=512)
    assert float(ema.tau(0)) == pytest.approx(0.99**2, abs=1e-12)
    assert float(ema.tau(50)) == pytest.approx(0.995**2, abs=1e-12)
    plain = TargetEMA(0.99, total_steps=100, batch_size=512)
    assert float(plain.tau(0)) == pytest.approx(0.99, abs=1e-12)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("base_tau", {"base_tau": 1.5}),
        ("base_tau", {"base_tau": -0.1}),
        ("base_tau", {"base_tau": float("nan")}),
        ("base_tau", {"base_tau": "0.99"}),
        ("final_tau", {"final_tau": 1.5}),
        ("final_tau", {"final_tau": None}),
        ("total_steps", {"total_steps": None}),
        ("total_steps", {"total_steps": 0}),
        ("total_steps", {"total_steps": 10.0}),
        ("reference_batch_size", {"reference_batch_size": 256}),
        ("reference_batch_size", {"reference_batch_size": 0, "batch_size": 256}),
        ("reference_batch_size", {"reference_batch_size": 256, "batch_size": -1}),
    ],
    ids=str,
)
def test_bad_argument_of_target_ema_is_refused(name, arguments):
    with pytest.raises(ValueError, match=f"^{name} must be .*Received: "):
        TargetEMA(**{"total_steps": 100, **arguments})


# --- TargetEMA in fit -----------------------------------------------------------------


def small_byol(**kwargs):
    backbone = keras.Sequential([keras.Input((3,)), layers.Dense(4)])
    model = BYOL(backbone, 8, 3, **kwargs)
    model.compile(keras.optimizers.SGD(0.5), jit_compile=False)
    return model


def small_dataset(batches):
    views = np.random.default_rng(0).normal(size=(2, batches * 8, 3))
    return tf.data.Dataset.from_tensor_slices(tuple(views.astype("float32"))).batch(8)


class Recorder(keras.callbacks.Callback):
    """Records tau and a kernel of both networks after every step."""

    def on_train_begin(self, logs=None):
        self.taus = []
        self.online, self.target = ([self._kernel(n)] for n in self._networks())

    def _networks(self):
        return self.model.online, self.model.target

    def _kernel(self, network):
        return network.backbone.layers[0].kernel.numpy().astype("float64")

    def on_train_batch_end(self, batch, logs=None):
        self.taus.append(float(logs["tau"]))
        for kernels, network in zip(
            (self.online, self.target), self._networks(), strict=True
        ):
            kernels.append(self._kernel(network))


@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_target_is_updated_once_per_step_with_the_tau_of_that_step(accumulation_steps):
    model = small_byol(accumulation_steps=accumulation_steps)
    recorder = Recorder()
    history = model.fit(
        small_dataset(4),
        shuffle=False,
        verbose=0,
        callbacks=[TargetEMA(0.5, total_steps=4), recorder],
    ).history
    assert recorder.taus[0] == 0.5
    expected = [float(target_tau(step, 4, 0.5)) for step in range(4)]
    np.testing.assert_allclose(recorder.taus, expected, atol=1e-12)
    assert history["tau"] == recorder.taus[-1:]
    target = recorder.target[0]
    for tau, online, actual in zip(
        expected, recorder.online[1:], recorder.target[1:], strict=True
    ):
        target = tau * target + (1.0 - tau) * online
        np.testing.assert_allclose(actual, target, rtol=0.0, atol=1e-6)
    steps = np.abs(np.diff(recorder.online, axis=0)).max(axis=(1, 2))
    assert steps.min() > 1e-3


def test_several_steps_per_execution_are_refused():
    model = small_byol()
    model.compile("sgd", steps_per_execution=2, jit_compile=False)
    with pytest.raises(ValueError, match=r"^steps_per_execution must be 1 .* 2$"):
        model.fit(
            small_dataset(2),
            shuffle=False,
            verbose=0,
            callbacks=[TargetEMA(total_steps=2)],
        )


# --- A warm-up of heads ---------------------------------------------------------------


OPTIMIZERS = {
    "sgd": lambda: keras.optimizers.SGD(0.5, momentum=0.9, weight_decay=0.1),
    "adamw": lambda: keras.optimizers.AdamW(0.1, weight_decay=0.1),
}


def kernels_in_warm_up(model, optimizer, steps, before=0):
    """Kernels of both backbones at the start and after each of four steps."""
    model.compile(optimizer, run_eagerly=True)
    warmup, recorder = HeadWarmup(steps), Recorder()
    warmup.step = before
    callbacks = [warmup, TargetEMA(0.5, total_steps=4), recorder]
    model.fit(small_dataset(4), shuffle=False, verbose=0, callbacks=callbacks)
    return recorder.online, recorder.target


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("accumulation_steps", [1, 2])
def test_backbones_are_bit_equal_in_the_warm_up_of_heads(name, accumulation_steps):
    model = small_byol(accumulation_steps=accumulation_steps)
    head = model.predictor.layers[-1].kernel.numpy()
    found = kernels_in_warm_up(model, OPTIMIZERS[name](), steps=2)
    for kernels in found:
        np.testing.assert_array_equal(kernels[1], kernels[0])
        np.testing.assert_array_equal(kernels[2], kernels[0])
        assert np.abs(kernels[3] - kernels[0]).max() > 1e-3
    assert np.abs(model.predictor.layers[-1].kernel.numpy() - head).max() > 1e-3


def test_resumed_warm_up_holds_the_steps_that_remain():
    online, _ = kernels_in_warm_up(small_byol(), "sgd", steps=3, before=2)
    np.testing.assert_array_equal(online[1], online[0])
    assert not np.array_equal(online[2], online[0])


def test_backbone_is_held_on_every_replica():
    strategy = two_replicas()
    with strategy.scope():
        model = small_byol()
    callbacks = [HeadWarmup(1), TargetEMA(0.5, total_steps=2)]
    before = model.online.backbone.get_weights()
    for is_held in (True, False):
        views = small_dataset(1)
        model.fit(views, shuffle=False, verbose=0, callbacks=callbacks)
        weights = zip(model.online.backbone.weights, before, strict=True)
        for weight, start in weights:
            parts = strategy.experimental_local_results(weight.value)
            assert len(parts) == 2
            for part in parts:
                assert np.array_equal(part, start) == is_held


def test_warm_up_without_steps_or_on_a_random_target_is_refused():
    with pytest.raises(ValueError, match=r"^steps must be a positive int"):
        HeadWarmup(0)
    warmup = HeadWarmup(3)
    with pytest.raises(ValueError, match=r"pre-trained backbone.* Received: 3 steps"):
        warmup.set_model(small_byol(target_init="random"))


# --- The position of a run ------------------------------------------------------------


class Reader(keras.Model):
    """Records the batches that it is fed."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def train_step(self, data):
        self.seen.append(int(data))
        return {"loss": tf.constant(0.0)}


class StopAt(keras.callbacks.Callback):
    """Stops the run inside or at the end of an epoch, as EarlyStopping does."""

    def __init__(self, batch=None, epoch=None):
        super().__init__()
        self.last_batch, self.last_epoch, self.batches = batch, epoch, 0

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        if self.batches == self.last_batch:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.last_epoch:
            self.model.stop_training = True


class Epochs(keras.callbacks.Callback):
    """Records the step at the end of each epoch, and the position at each batch."""

    def __init__(self, position):
        super().__init__()
        self.position = position
        self.ends, self.steps = {}, []

    def on_train_batch_end(self, batch, logs=None):
        position = self.position
        self.steps.append((position.epoch, position.step, position.at_epoch_end))

    def on_epoch_end(self, epoch, logs=None):
        self.ends[epoch] = self.position.step


def read(epoch_ends, *callbacks, step=0):
    """Returns the batches that a model sees, and the records of `Epochs`."""
    model, position = Reader(), RunPosition(epoch_ends)
    position.move_to(step)
    epochs = Epochs(position)
    model.compile(run_eagerly=True)
    model.fit(
        tf.data.Dataset.range(step, 100),
        epochs=len(epoch_ends),
        initial_epoch=position.epoch,
        steps_per_epoch=position.longest_epoch,
        shuffle=False,
        verbose=0,
        callbacks=[position, *callbacks, epochs],
    )
    return list(model.seen), epochs


def test_uneven_epochs_end_at_the_prescribed_steps_and_lose_no_batch():
    seen, epochs = read([2, 5, 7])
    assert seen == list(range(7))
    assert epochs.ends == {0: 2, 1: 5, 2: 7}


def test_every_callback_reads_step_epoch_and_whether_the_epoch_ends():
    _, epochs = read([2, 5])
    assert epochs.steps == [
        (0, 1, False),
        (0, 2, True),
        (1, 3, False),
        (1, 4, False),
        (1, 5, True),
    ]


@pytest.mark.parametrize("step", range(7))
def test_run_resumed_at_any_step_equals_an_uninterrupted_one(step):
    seen, epochs = read([2, 5, 7], step=step)
    assert seen == list(range(step, 7))
    _, unbroken = read([2, 5, 7])
    assert epochs.steps == unbroken.steps[step:]
    assert epochs.ends.items() <= unbroken.ends.items()
    assert 2 in epochs.ends


@pytest.mark.parametrize(
    ("stop", "batches"),
    [({"batch": 4}, 4), ({"batch": 5}, 5), ({"epoch": 1}, 5)],
    ids=["inside_an_epoch", "at_its_last_step", "at_its_end"],
)
def test_another_callback_can_end_the_run(stop, batches):
    seen, epochs = read([2, 5, 7], StopAt(**stop))
    assert len(seen) == batches
    assert list(epochs.ends) == [0, 1]
