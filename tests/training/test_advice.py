import dataclasses
import functools
import json

import keras
import pytest

from byol_keras import TargetEMA
from byol_keras.export import export_backbone, pretrained_backbone
from byol_keras.export.digest import backbone_digest
from byol_keras.training import advice, plan
from byol_keras.training.source import Source

from support.models import tiny_backbone
from support.run_parts import build


@pytest.fixture(scope="module")
def backbone_fn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export")
    export_backbone(tiny_backbone(1), folder)
    return functools.partial(pretrained_backbone, file=str(folder))


def source_in(folder, optimizer="SGD", learning_rate=0.8, tau=0.0):
    """A source whose run, of batch 32, has logged a rate that falls and a tau."""
    steps = [{"learning_rate": 0.0, "tau": tau}, {"learning_rate": learning_rate}]
    text = "".join(json.dumps(line) + "\n" for line in [*steps, {"tau": 1.0}])
    (folder / "metrics.jsonl").write_text(text)
    config = {"train.optimizer_fn": f"@{optimizer}", "train.batch_size": "32"}
    return Source(str(folder), 40, "abcdef0123456789", config, [], {})


def rising(step):
    return min(0.05 * step / 8, 0.05)


def constant(step):
    return 0.1


def fast_target(total_steps, batch_size):
    return TargetEMA(0.0, total_steps=total_steps)


@pytest.fixture(scope="module")
def run():
    return build(target_ema_fn=fast_target)


def advice_on(run, rate=rising):
    return advice.rows(run, rate).get("advice")


def test_run_from_random_weights_gets_no_advice(run):
    assert advice.rows(run, rising) == {}
    assert "advice" not in plan.rows(run)


def test_backbone_alone_is_described_and_its_heads_are_to_be_warmed_up(backbone_fn):
    run = build(backbone_fn=backbone_fn)
    rows = plan.rows(run)
    digest = backbone_digest(run.model.online.backbone)[:12]
    start = f"pre-trained backbone, sha256 {digest}; heads at random"
    assert rows["start"] == start
    assert (
        "rises to 6.4 per 256 images: a trained backbone takes less" in rows["advice"]
    )
    assert "the first step has the learning rate 0.1: let it rise" in rows["advice"]
    assert "train.head_warmup_epochs = 1 holds the backbone" in rows["advice"]
    held = build({"head_warmup_epochs": 1}, backbone_fn=backbone_fn)
    rows = plan.rows(held)
    assert rows["start"] == f"{start}; backbone held for 2 steps"
    assert "train.head_warmup_epochs" not in rows["advice"]
    joins = "the backbone joins at step 2 with the learning rate 0.1: a warm-up of the"
    assert joins in rows["advice"]
    assert "the backbone joins" not in advice_on(held, rising)


@pytest.mark.parametrize(
    ("optimizer", "learning_rate", "is_much"),
    [
        ("SGD", 0.02, True),
        ("keras.optimizers.SGD", 0.02, True),
        # 0.04 at the end is 2.8 per 256 images: half of the source's 6.4 is more.
        ("SGD", 0.8, False),
        ("LARS", 0.02, False),
    ],
)
def test_rate_is_compared_with_the_sources_per_image(
    run, tmp_path, optimizer, learning_rate, is_much
):
    source = source_in(tmp_path, optimizer, learning_rate)
    found = advice_on(dataclasses.replace(run, source=source))
    words = "rises to 2.8 per 256 images, in the source to 0.16: half of that or less"
    assert (words in found) == is_much
    if not is_much:
        assert found == "none"


def test_first_step_with_a_large_rate_is_named(run, tmp_path):
    started = dataclasses.replace(run, source=source_in(tmp_path))
    assert "the first step has the learning rate 0.1" in advice_on(started, constant)
    start = advice.rows(started, constant)["start"]
    assert start == f"all networks of {tmp_path} at step 40, sha256 abcdef012345"


HARDLY = "the target averages over 100 of 500 steps and hardly follows: TargetEMA."
SLOWER = "tau starts at 0.98, in the source at 0.99: a trained target can be as slow"


@pytest.mark.parametrize(
    ("base_tau", "total_steps", "expected"),
    [
        (0.99, 500, f"{HARDLY}base_tau = 0.98 or less"),
        (0.99, 2000, "none"),
        (0.98, 2000, f"{SLOWER} (TargetEMA.base_tau)"),
        (1.0, 2000, "none"),
    ],
)
def test_advice_on_tau(run, tmp_path, base_tau, total_steps, expected):
    started = dataclasses.replace(
        run,
        source=source_in(tmp_path, tau=0.99),
        target_ema=TargetEMA(base_tau, total_steps=total_steps),
        length=dataclasses.replace(run.length, num_examples=4, epochs=total_steps),
    )
    assert advice_on(started) == expected


def test_source_that_has_logged_nothing_is_not_compared(run, tmp_path):
    source = source_in(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    assert advice_on(dataclasses.replace(run, source=source)) == "none"


def test_optimizer_with_loss_scaling_is_compared_by_its_inner_one(run, tmp_path):
    source = source_in(tmp_path, learning_rate=0.02)
    scaled = build(
        optimizer_fn=lambda learning_rate: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(learning_rate)
        ),
        target_ema_fn=fast_target,
    )
    assert "in the source to 0.16" in advice_on(
        dataclasses.replace(scaled, source=source)
    )
