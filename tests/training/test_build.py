import dataclasses
import functools

import keras
import pytest

from byol_keras import BYOL
from byol_keras.training.build import build_run

from support.run_parts import PARTS, SETTINGS, build


@pytest.fixture(scope="module")
def run():
    return build()


def test_epochs_of_11_images_in_batches_of_4_end_at_steps_2_5_and_8(run):
    assert run.length.total_steps == 8
    assert run.position.epoch_ends == [2, 5, 8]


def test_model_is_compiled_and_its_optimizer_is_built(run):
    assert run.model.compiled
    assert run.model.optimizer.built
    assert run.model.built


def test_parts_that_are_switched_off_are_missing(run):
    assert run.watchers == []
    assert run.report is None


def test_target_ema_gets_the_length_of_the_run(run):
    assert run.target_ema.total_steps == 8


def recorded(calls, name):
    def make(**arguments):
        calls[name] = arguments
        return keras.callbacks.Callback()

    return make


def test_guard_comes_before_the_doctor_and_each_part_gets_its_arguments():
    calls = {}
    names = ("guard_fn", "doctor_fn", "report_fn")
    run = build(**{name: recorded(calls, name) for name in names})
    assert list(calls) == list(names)
    assert len(run.watchers) == 2
    assert calls["guard_fn"]["every_steps"] == 5
    assert calls["guard_fn"]["describe"](step=1)["first_image"] == 4
    view1, view2 = calls["doctor_fn"]["probe"]()
    assert view1.shape == view2.shape == (4, 8, 8, run.data.channels)
    assert calls["doctor_fn"]["shortcuts"]() is None  # 11 images are too few
    assert calls["doctor_fn"]["batch_size"] == 4
    assert calls["report_fn"]["pass_length"] == 11
    assert run.report is not None


class Refusing(keras.callbacks.Callback):
    """Does not accept any model."""

    def set_model(self, model):
        raise ValueError("model must be another. Received: this one")


def test_callback_that_refuses_the_model_fails_before_training():
    with pytest.raises(ValueError, match="model must be another"):
        build(callbacks=[Refusing])


def test_callbacks_are_functions_or_made_already():
    made = keras.callbacks.TerminateOnNaN()
    run = build(callbacks=[keras.callbacks.TerminateOnNaN, made])
    first, second = run.callbacks
    assert isinstance(first, keras.callbacks.TerminateOnNaN)
    assert second is made
    assert first.model is run.model


@pytest.mark.parametrize("name", ["epochs", "batch_size", "log_every_steps"])
def test_count_that_is_not_positive_is_refused_under_its_gin_name(name):
    rule = rf"^train\.{name} must be a positive int\. Received: 0$"
    with pytest.raises(ValueError, match=rule):
        build({name: 0})


def test_batch_that_accumulation_does_not_divide_is_refused():
    model_fn = functools.partial(BYOL, hidden_units=8, accumulation_steps=3)
    with pytest.raises(ValueError, match="batch_size must be divisible by"):
        build(model_fn=model_fn)


@pytest.mark.parametrize(
    ("strategy", "accumulation_steps", "batch_size", "product"),
    [
        ("cpu", 1, 1, "1 x 1"),
        ("cpu", 4, 4, "1 x 4"),
        ("mirrored", 1, 2, "2 x 1"),
        ("mirrored", 2, 4, "2 x 2"),
    ],
)
def test_one_image_per_replica_and_micro_batch_is_refused(
    strategy, accumulation_steps, batch_size, product
):
    rule = (
        "^train.batch_size must be at least two images times replicas x "
        f"accumulation_steps = {product}, since .* Received: {batch_size}$"
    )
    model_fn = functools.partial(
        BYOL, hidden_units=8, output_units=4, accumulation_steps=accumulation_steps
    )
    parts = dataclasses.replace(PARTS, model_fn=model_fn)
    settings = dataclasses.replace(SETTINGS, batch_size=batch_size)
    with pytest.raises(ValueError, match=rule):
        build_run(None, strategy, parts, settings)


def test_clipping_on_two_replicas_is_refused_under_its_gin_name():
    sgd = functools.partial(keras.optimizers.SGD, global_clipnorm=1.0)
    parts = dataclasses.replace(PARTS, optimizer_fn=sgd)
    with pytest.raises(ValueError, match=r"^SGD\.global_clipnorm must be None on more"):
        build_run(None, "mirrored", parts, SETTINGS)
    assert build(optimizer_fn=sgd).model.compiled


def test_batch_that_replicas_do_not_divide_is_refused():
    rule = r"replicas x accumulation_steps = 2 x 1\. Received: 5"
    settings = dataclasses.replace(SETTINGS, batch_size=5)
    with pytest.raises(ValueError, match=rule):
        build_run(None, "mirrored", PARTS, settings)
