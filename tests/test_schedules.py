import keras
import numpy as np
import pytest

from byol_keras.schedules import (
    RunLength,
    WarmupCosine,
    WarmupEpochCosine,
    constant_learning_rate,
    scaled_learning_rate,
    warmup_cosine,
    warmup_epoch_cosine,
)

IMAGENET = 1_281_167


def _at(schedule, step):
    return np.asarray(schedule(step), "float64")


# --- Length of a run ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run_length", "total_steps"),
    [
        (RunLength(IMAGENET, 4096, 40), 12_511),
        (RunLength(IMAGENET, 4096, 100), 31_278),
        (RunLength(IMAGENET, 4096, 300), 93_835),
        (RunLength(IMAGENET, 4096, 1000), 312_784),
        (RunLength(IMAGENET, 512, 1000), 2_502_279),
        (RunLength(9469, 256, 1000), 36_988),
        (RunLength(IMAGENET, 4096, 200, 16, "pad"), 62_563),
        (RunLength(IMAGENET, 4096, 300, 16, "pad"), 93_844),
        (RunLength(IMAGENET, 4096, 100, 16, "pad"), 31_282),
        (RunLength(IMAGENET, 4096, 200, 1, "pad"), 62_600),
        (RunLength(IMAGENET, 4096, 100, 2, "pad"), 626 * 100 // 2),
        (RunLength(IMAGENET, 4096, 200, 2, "pad"), 626 * 200 // 2),
        (RunLength(IMAGENET, 4096, 300, 2, "pad"), 626 * 300 // 2),
    ],
)
def test_total_steps_of_the_published_recipes(run_length, total_steps):
    assert run_length.total_steps == total_steps


@pytest.mark.parametrize(
    ("batch_size", "accumulation_steps", "iterations"),
    [(4096, 16, 5005), (4096, 1, 313), (4096, 2, 626)],
)
def test_padded_pass_is_whole_micro_batches(batch_size, accumulation_steps, iterations):
    run_length = RunLength(IMAGENET, batch_size, 1, accumulation_steps, "pad")
    assert run_length.iterations_per_epoch == iterations
    micro_batch = batch_size // accumulation_steps
    assert run_length.pass_length == iterations * micro_batch


def test_carried_pass_has_the_images_of_the_dataset():
    assert RunLength(IMAGENET, 4096, 10).pass_length == IMAGENET


def test_carried_warmup_of_ten_epochs_is_3127_steps():
    assert RunLength(IMAGENET, 4096, 300).step_at_epoch(10) == 3127


def test_padded_step_at_epoch_rounds_up():
    # Ten passes are 50,050 micro-batches: 3128 windows of 16, and 2 more.
    assert RunLength(IMAGENET, 4096, 200, 16, "pad").step_at_epoch(10) == 3129


@pytest.mark.parametrize(
    "run_length",
    [
        RunLength(10, 4, 7),
        RunLength(10, 10, 3),
        RunLength(10, 4, 7, 2, "pad"),
        RunLength(11, 6, 5, 3, "pad"),
        RunLength(7, 6, 5, 6, "pad"),
    ],
)
def test_epoch_of_step_inverts_step_at_epoch(run_length):
    epochs = [run_length.epoch_of_step(s) for s in range(run_length.total_steps)]
    expected = [
        epoch
        for epoch in range(run_length.epochs)
        for _ in range(
            run_length.step_at_epoch(epoch), run_length.step_at_epoch(epoch + 1)
        )
    ]
    assert epochs == expected


def test_numpy_counts_do_not_overflow():
    run_length = RunLength(np.int32(IMAGENET), np.int32(512), np.int32(2000))
    assert run_length.total_steps == 5_004_558


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4, 1), "num_examples must be a positive int. Received: 0"),
        ((10, -4, 1), "batch_size must be a positive int. Received: -4"),
        ((10, 4, 1.5), "epochs must be a positive int. Received: 1.5"),
        ((10, 4, 1, 0), "accumulation_steps must be a positive int. Received: 0"),
        ((10, 4, 1, 1, "drop"), "last_batch must be one of .* Received: 'drop'"),
        ((10, 4, 1, 3), r"batch_size must be divisible .* \(3\). Received: 4"),
        ((10, 12, 99), r"batch_size .* num_examples \(10\). Received: 12"),
        ((10, 12, 99, 2, "pad"), r"batch_size .* num_examples \(10\)"),
    ],
)
def test_run_length_names_the_wrong_argument(arguments, message):
    with pytest.raises(ValueError, match=message):
        RunLength(*arguments)


def test_carried_run_has_no_whole_number_of_iterations_per_epoch():
    with pytest.raises(ValueError, match=r"last_batch must be .* 'carry'"):
        _ = RunLength(10, 4, 7).iterations_per_epoch


# --- Learning rates -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("run_length", "base", "warmup_epochs", "expected"),
    [
        (
            RunLength(IMAGENET, 4096, 300), 0.3, 10,
            {0: 0, 1: 0.0015350175887432, 1000: 1.5350175887432, 3126: 4.79846498241,
             3127: 4.8, 20000: 4.40172807834151, 46917: 2.529939104743,
             93834: 1.43942751e-9},
        ),
        (
            RunLength(IMAGENET, 4096, 1000), 0.2, 10,
            {1: 0.00102334505916, 1000: 1.02334505916214, 100000: 2.48749215749781,
             156392: 1.62537865643},
        ),
        (
            RunLength(IMAGENET, 4096, 100), 0.45, 10,
            {1: 0.00230252638311, 15639: 4.22495759486},
        ),
        (
            RunLength(IMAGENET, 1024, 80), 0.2, 0,
            {0: 0.8, 50045: 0.400006277473, 100090: 1.97033322991e-10},
        ),
    ],
    ids=["300e", "1000e", "100e", "no_warmup"],
)  # fmt: skip
def test_deepmind_learning_rates(run_length, base, warmup_epochs, expected):
    schedule = warmup_cosine(run_length, base, warmup_epochs)
    for step, learning_rate in expected.items():
        np.testing.assert_allclose(
            _at(schedule, step), learning_rate, rtol=1e-6, err_msg=str(step)
        )


MMSELFSUP_RATES = {
    (5005, 200): {
        0: 0.00048, 1: 0.000575894505495, 16: 0.00201431208791, 2502: 0.240408052747,
        5004: 0.480336105495, 5005: 0.480402365148, 25025: 2.39654043056,
        50049: 4.77596136235, 50050: 4.77045201743, 55055: 4.76426238277, 500500: 2.4,
        1000999: 0.000296082044015,
    },
    (5005, 300): {
        0: 0.00048, 5005: 0.480418828804, 50050: 4.78685254888, 500500: 3.6,
        750750: 2.4, 1501499: 0.000131593522771,
    },
    (313, 200): {
        1: 0.00201339297125, 312: 0.478898607029, 313: 0.480402365148,
        3129: 4.77453103438, 3130: 4.77045201743, 31300: 2.4, 62599: 0.000296082044015,
    },
}  # fmt: skip


@pytest.mark.parametrize(("iterations", "epochs"), MMSELFSUP_RATES)
def test_mmselfsup_learning_rates_per_micro_iteration(iterations, epochs):
    schedule = WarmupEpochCosine(4.8, epochs, 10, iterations)
    for iteration, learning_rate in MMSELFSUP_RATES[iterations, epochs].items():
        np.testing.assert_allclose(
            _at(schedule, iteration), learning_rate, rtol=1e-6, err_msg=str(iteration)
        )


@pytest.mark.parametrize("epochs", [200, 300])
def test_update_takes_the_rate_of_its_last_micro_iteration(epochs):
    run_length = RunLength(IMAGENET, 4096, epochs, 16, "pad")
    accumulated = warmup_epoch_cosine(run_length, 0.3)
    per_iteration = WarmupEpochCosine(4.8, epochs, 10, 5005)
    for step in (0, 1, 312, 3127, 3128, 31281):
        expected = _at(per_iteration, 16 * step + 15)
        np.testing.assert_array_equal(_at(accumulated, step), expected)


def test_last_partial_window_keeps_the_rate_of_the_last_epoch():
    schedule = warmup_epoch_cosine(RunLength(IMAGENET, 4096, 200, 16, "pad"), 0.3)
    # Its sixteenth micro-iteration would lie in epoch 200, where the cosine is 0.
    np.testing.assert_allclose(_at(schedule, 62_562), 0.000296082044015, rtol=1e-6)


def test_deepmind_rate_stays_0_after_the_end():
    np.testing.assert_array_equal(_at(WarmupCosine(1.0, 100), [100, 101, 200]), 0.0)


def test_no_warmup_starts_the_staircase_at_its_peak():
    schedule = WarmupEpochCosine(4.8, 100, 0, 313)
    np.testing.assert_allclose(_at(schedule, 0), 4.8, rtol=1e-6)


def test_rate_is_exact_after_millions_of_steps():
    # The last step of the paper's longest run (batch size 512, 1000 epochs).
    total_steps = 2_502_279
    expected = 0.8 * np.sin(0.5 * np.pi / total_steps) ** 2
    schedule = WarmupCosine(0.8, total_steps)
    np.testing.assert_allclose(_at(schedule, total_steps - 1), expected, rtol=1e-6)


def test_constant_rate_is_not_scaled():
    assert constant_learning_rate(RunLength(IMAGENET, 4096, 1), 0.03) == 0.03


@pytest.mark.parametrize(
    ("base", "batch_size", "expected"), [(0.3, 4096, 4.8), (2.0, 256, 2.0)]
)
def test_base_learning_rate_is_per_256_images(base, batch_size, expected):
    assert scaled_learning_rate(base, batch_size) == pytest.approx(expected)


@pytest.mark.parametrize(
    "schedule",
    [
        WarmupCosine(4.8, total_steps=93835, warmup_steps=3127),
        WarmupEpochCosine(4.8, 200, 10, 5005, accumulation_steps=16),
    ],
    ids=["WarmupCosine", "WarmupEpochCosine"],
)
def test_schedule_survives_serialisation(schedule):
    config = keras.optimizers.schedules.serialize(schedule)
    restored = keras.optimizers.schedules.deserialize(config)
    assert type(restored) is type(schedule)
    assert restored.get_config() == schedule.get_config()


@pytest.mark.parametrize("builder", [warmup_cosine, warmup_epoch_cosine])
def test_builders_reject_a_warmup_as_long_as_the_run(builder):
    run_length = RunLength(1000, 100, 10, last_batch="pad")
    message = r"warmup_epochs must be smaller than epochs \(10\). Received: 10"
    with pytest.raises(ValueError, match=message):
        builder(run_length, 0.3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: WarmupCosine(1.0, 0), "total_steps must be a positive int"),
        (lambda: WarmupCosine(1.0, 9, -1), "warmup_steps must be an int of at least"),
        (lambda: WarmupCosine(1.0, 9, 9), "warmup_steps must be smaller than"),
        (lambda: WarmupEpochCosine(1.0, 0, 0, 5), "epochs must be a positive int"),
        (lambda: WarmupEpochCosine(1.0, 9, 0, 0), "iterations_per_epoch must be"),
        (lambda: WarmupEpochCosine(1.0, 9, 0, 5, 0), "accumulation_steps must be"),
    ],
)
def test_schedules_name_the_wrong_argument(build, message):
    with pytest.raises(ValueError, match=message):
        build()
