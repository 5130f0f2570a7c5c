"""Advice for a run that starts from trained weights: learning rate, tau and heads."""

from collections.abc import Callable

from byol_keras.export.digest import backbone_digest
from byol_keras.training.source import describe_source

# Share of the source's learning rate from which on the advice is to take less.
_MUCH_OF_THE_RATE = 0.5
# A target that averages over a larger share of the run hardly follows it.
_MOST_OF_THE_RUN = 0.1


def rows(run, rate: Callable[[int], float]) -> dict[str, str]:
    """The rows of a plan on what the networks start with.

    Args:
        run: `build.Run`.
        rate: step -> learning rate of the run.

    Returns:
        "start" and "advice" -> text; empty for a run from random weights, and for one
        that resumes from a checkpoint of its own.
    """
    if run.source is not None:
        start = [describe_source(run.source.record()), *run.source.damaged]
    elif getattr(run.model.online.backbone, "has_trained_weights", False):
        start = _start_of_backbone(run)
    else:
        return {}
    peak = max(rate(step) for step in _probe_steps(run.length.total_steps))
    advice = [
        *_on_peak(run, peak),
        *_on_first(rate, peak),
        *_on_heads(run, rate, peak),
        *_on_tau(run),
    ]
    return {"start": "; ".join(start), "advice": "; ".join(advice) or "none"}


def _start_of_backbone(run):
    digest = backbone_digest(run.model.online.backbone)
    found = [f"pre-trained backbone, sha256 {digest[:12]}", "heads at random"]
    if run.head_warmup is not None:
        found.append(f"backbone held for {run.head_warmup.steps} steps")
    return found


def _on_peak(run, peak):
    """Advice on the highest learning rate, per 256 images."""
    peak *= 256 / run.length.batch_size
    if run.source is None:
        return [
            f"the learning rate rises to {peak:.3g} per 256 images: a trained backbone "
            "takes less than a random one, such as a quarter of the recipe's"
        ]
    optimizer = run.model.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    before = _peak_of(run.source, type(optimizer).__name__)
    if before is None or peak <= _MUCH_OF_THE_RATE * before:
        return []
    return [
        f"the learning rate rises to {peak:.3g} per 256 images, in the source to "
        f"{before:.3g}: half of that or less keeps more of what it has learned"
    ]


def _peak_of(source, optimizer):
    """The source's peak rate per 256 images; None if another optimizer had it."""
    reference = source.config.get("train.optimizer_fn", "")
    name = reference.strip("@").replace("/", ".").rpartition(".")[2]
    logged, batch_size = source.peak("learning_rate"), _batch_size(source)
    if optimizer != name or logged is None or batch_size is None:
        return None
    return logged * 256 / batch_size


def _batch_size(source):
    found = source.config.get("train.batch_size", "")
    return int(found) if found.isdigit() else None


def _on_first(rate, peak):
    if rate(0) <= 0.1 * peak:
        return []
    return [
        f"the first step has the learning rate {rate(0):.3g}: let it rise from 0 "
        "(warmup_cosine.warmup_epochs), since the optimizer starts without averages"
    ]


def _on_heads(run, rate, peak):
    """Advice on the epochs that hold the backbone."""
    if run.source is not None:
        return []
    if run.head_warmup is None:
        return [
            "the heads start at random: train.head_warmup_epochs = 1 holds the "
            "backbone until they fit it"
        ]
    joins = run.head_warmup.steps
    if rate(joins) <= 0.5 * peak:
        return []
    return [
        f"the backbone joins at step {joins} with the learning rate {rate(joins):.3g}: "
        "a warm-up of the rate (warmup_cosine.warmup_epochs) that is longer than that "
        "of the heads lets it join with less"
    ]


def _on_tau(run):
    """Advice on the pace of the target."""
    tau, total = float(run.target_ema.tau(0)), run.length.total_steps
    most = max(_MOST_OF_THE_RUN * total, 1.0)
    if tau < 1.0 and 1.0 / (1.0 - tau) > most:
        return [
            f"the target averages over {1.0 / (1.0 - tau):.0f} of {total} steps and "
            f"hardly follows: TargetEMA.base_tau = {1.0 - 1.0 / most:.3g} or less"
        ]
    before = None if run.source is None else run.source.first("tau")
    if before is None or tau >= before - 1e-6:
        return []
    return [
        f"tau starts at {tau:.4g}, in the source at {before:.4g}: a trained target can "
        "be as slow (TargetEMA.base_tau)"
    ]


def _probe_steps(total_steps):
    return sorted({total_steps * percent // 100 for percent in range(100)})
