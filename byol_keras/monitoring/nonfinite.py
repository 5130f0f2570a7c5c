"""Guard against non-finite steps: skips them or stops, counts them, dumps state."""

import contextlib
import hashlib
import json
from collections.abc import Callable
from typing import NamedTuple

import gin
import keras
import tensorflow as tf

from byol_keras.checkpoints.files import CheckpointFolder
from byol_keras.checkpoints.variables import arrays_of, load_arrays
from byol_keras.runtime import cli, workers
from byol_keras.runtime.argument_checks import check_choice, check_positive_ints
from byol_keras.runtime.run_folder import RunFolder

ON_NONFINITE = ("skip", "stop")


class Counts(NamedTuple):
    """Counters of the guard on the device, int64 scalars.

    Args:
        step: steps so far, including skipped ones.
        skipped: skipped steps.
        in_a_row: skipped steps since the last good one.
        bad_step: the first step of those in a row, counted from 0.
        tripped: 1 if the run must stop; from then on no step changes anything.
    """

    step: object = 0
    skipped: object = 0
    in_a_row: object = 0
    bad_step: object = -1
    tripped: object = 0

    def after(self, bad, limit):
        """Counts after one more step; `limit` bad steps in a row trip the guard."""
        bad = tf.cast(bad, tf.int64)
        # With a limit of 1 the step trips the guard alone; earlier ones do not count.
        in_a_row = tf.where(limit == 1, limit, self.in_a_row + 1) * bad
        following = Counts(
            step=self.step + 1,
            skipped=self.skipped + bad,
            in_a_row=in_a_row,
            bad_step=tf.where(in_a_row == 1, self.step, self.bad_step),
            tripped=tf.cast(in_a_row >= limit, tf.int64),
        )
        return tf.where(self.tripped > 0, tf.stack(self), tf.stack(following))


@gin.register(module="byol_keras")
class NonfiniteGuard(keras.callbacks.Callback):
    """Keeps steps with a non-finite loss or gradient from changing the model.

    Such a step leaves weights, optimizer, BatchNormalization statistics and target as
    they were. The decision is made on the device. The host reads the counts only every
    `every_steps` steps; a guard that has tripped lets no step through in the meantime.

    With loss scaling, gradients overflow regularly while the scale is adjusted. "stop"
    then waits for a non-finite loss, or for `max_in_a_row` overflows.

    Adds `skipped_steps` to the logs: all skipped steps of the run, also those of
    earlier processes.

    Args:
        on_nonfinite: "skip" to continue with the next batch, or "stop" to end the run.
        max_in_a_row: int. Number of skipped steps in a row that ends the run in any
            case. Loss scaling starts at 2^15 and halves at each overflow, so it must be
            more than 15.
        every_steps: int. Steps between two readings of the counts.
        model_dir: optional path of the run folder. A run that stops dumps to
            `nonfinite/step_<step>/` the state before the first bad step and a
            `report.json`.
        describe: optional function (step) -> dict in JSON types, which describes the
            batch of a step for the report.

    Attributes:
        step: int. Optimizer step at which this process starts; set it to resume.
        stopped: str or None. The reason why the guard has stopped the run.

    Raises:
        ValueError: for an unknown `on_nonfinite` and numbers that are not positive.
    """

    async_safe = False

    def __init__(
        self,
        on_nonfinite: str = "skip",
        max_in_a_row: int = 20,
        every_steps: int = 20,
        model_dir=None,
        describe: Callable[[int], dict] | None = None,
    ):
        super().__init__()
        check_choice("on_nonfinite", on_nonfinite, ON_NONFINITE)
        check_positive_ints(max_in_a_row=max_in_a_row, every_steps=every_steps)
        self.on_nonfinite = on_nonfinite
        self.max_in_a_row = max_in_a_row
        self.every_steps = every_steps
        self.folder = None if model_dir is None else RunFolder(model_dir)
        self.describe = describe
        self.step = 0
        self.stopped = None
        self._skipped = 0

    def set_model(self, model):
        super().set_model(model)
        if getattr(model, "guard", None) is self:
            return
        with model.distribute_strategy.scope():
            # All replicas count the same, so no aggregation is needed.
            self._counts = tf.Variable(
                tf.constant(Counts(), tf.int64),
                trainable=False,
                aggregation=tf.VariableAggregation.NONE,
            )
        model.guard = self
        # A training step traced before does not call this guard.
        model.train_function = None

    def statistics(self):
        """Values of the non-trainable weights, to call before the forward pass."""
        return [
            tf.convert_to_tensor(weight.value)
            for weight in self.model.non_trainable_weights
        ]

    def apply(self, loss, gradients, statistics):
        """Applies the gradients if they are finite. Called by the training step.

        Args:
            loss: scalar of this replica.
            gradients: list of tensors or None, one per trainable variable.
            statistics: the result of `statistics()` before the forward pass.

        Returns:
            bool scalar: whether the step was applied; the same on all replicas.
        """
        scaled = isinstance(self.model.optimizer, keras.optimizers.LossScaleOptimizer)
        loss_is_finite, is_finite = _finite_on_all_replicas(loss, gradients)
        limit = self.max_in_a_row
        if self.on_nonfinite == "stop":
            limit = tf.where(loss_is_finite, limit, 1) if scaled else 1
        before = Counts(*tf.unstack(self._counts))
        self._counts.assign(before.after(~is_finite, tf.cast(limit, tf.int64)))
        running = before.tripped == 0
        taken = running & is_finite
        # Loss scaling skips overflows itself, and lowers its scale when it sees one.
        self._settle(running if scaled else taken, taken, gradients, statistics)
        return taken

    def _settle(self, move, keep, gradients, statistics):
        """Applies the gradients if `move`; restores the statistics unless `keep`."""
        variables = self.model.trainable_variables
        weights = [weight.value for weight in self.model.non_trainable_weights]

        def step(gradients):
            self.model.optimizer.apply(gradients, variables)

        if tf.__internal__.distribute.strategy_supports_no_merge_call():
            tf.cond(move, lambda: step(gradients), _nothing)
            tf.cond(keep, _nothing, lambda: _assign_all(weights, statistics))
            return

        # An optimizer communicates between replicas, which `tf.cond` on one cannot.
        def on_all(strategy, move, keep, gradients, statistics):
            move, keep = (
                strategy.experimental_local_results(x)[0] for x in (move, keep)
            )
            each = strategy.extended.call_for_each_replica
            tf.cond(move, lambda: each(step, args=(gradients,)), _nothing)
            tf.cond(
                keep,
                _nothing,
                lambda: _assign_everywhere(strategy, weights, statistics),
            )

        tf.distribute.get_replica_context().merge_call(
            on_all, args=(move, keep, gradients, statistics)
        )

    def on_train_begin(self, logs=None):
        self.stopped = None
        self._skipped = 0
        self._counts.assign(Counts(step=self.step))

    def save_own_variables(self, store):
        """Saves the counts to a checkpoint."""
        store["counts"] = self._counts.numpy()

    def load_own_variables(self, store):
        """Loads the counts of a checkpoint; a guard that has tripped starts again."""
        counts = Counts(*map(int, store["counts"]))
        if counts.tripped:
            counts = counts._replace(in_a_row=0, tripped=0)
        self._counts.assign(counts)
        self._skipped = counts.skipped

    def on_train_batch_end(self, batch, logs=None):
        self.step += 1
        # `stop_training` is also set at the end of an epoch, before its checkpoint.
        if self.step % self.every_steps == 0 or self.model.stop_training:
            self._read()
        if logs is not None:
            logs["skipped_steps"] = self._skipped

    def _read(self):
        counts = Counts(*map(int, self._counts.numpy()))
        self._skipped = counts.skipped
        if counts.tripped and not self.stopped:
            self.stopped = _describe_stop(counts)
            self.model.stop_training = True
            # All workers hold the same weights.
            if not workers.is_chief(self.model.distribute_strategy):
                return
            if self.folder is not None:
                self.stopped += f"; {self._dump(counts)}"
            print(self.stopped)

    def _dump(self, counts):
        """Writes the state before the first bad step; returns how to replay it."""
        step, dump = counts.bad_step, self.folder.dump(counts.bad_step)
        with contextlib.closing(CheckpointFolder(dump)) as checkpoints:
            checkpoints.save(step, arrays_of(self.model), about={})
            checkpoints.wait()
        config = self.folder.config
        command = cli.command(
            "train", gin_file=config, model_dir=self.folder, replay_step=step
        )
        report = {
            "step": step,
            "steps_in_a_row": counts.in_a_row,
            "skipped_steps": counts.skipped,
            "weights_sha256": weights_fingerprint(self.model),
            "config": str(config),
            "replay": command,
            "batch": self.describe(step) if self.describe else None,
        }
        text = json.dumps(report, indent=1) + "\n"
        self.folder.dump_report(step).write_text(text)
        return f"replay it by\n  {command}"


def load_dump(model_dir, step: int, model) -> None:
    """Loads the state that a stopped run has dumped into a model.

    Args:
        model_dir: path of the run folder.
        step: int. The first bad step.
        model: compiled `BYOL`.

    Raises:
        ValueError: if there is no dump of the step, or it is of another model.
    """
    folder = RunFolder(model_dir).dump(step)
    found = CheckpointFolder(folder).newest()
    if found is None:
        raise ValueError(
            "replay_step must be a step at which NonfiniteGuard has stopped the run "
            f"in model_dir. Received: {step}, but {folder} holds no state"
        )
    load_arrays(model, found.arrays, folder)


def weights_fingerprint(model) -> str:
    """Hex SHA-256 of all weights and statistics of the three networks."""
    digest = hashlib.sha256()
    for part in (model.online, model.target, model.predictor):
        for variable in part.variables:
            digest.update(keras.ops.convert_to_numpy(variable).tobytes())
    return digest.hexdigest()


def _describe_stop(counts):
    if counts.in_a_row == 1:
        return f"loss or gradients of step {counts.bad_step} are not finite"
    return (
        f"loss or gradients of {counts.in_a_row} steps in a row, from step "
        f"{counts.bad_step} on, are not finite"
    )


def _finite_on_all_replicas(loss, gradients):
    """Whether the loss is finite, and whether loss and gradients are; bool scalars.

    The sum of a gradient is finite only if all its values are, and takes one pass.
    """
    total = tf.add_n(
        [tf.reduce_sum(tf.cast(g, tf.float32)) for g in gradients if g is not None]
    )
    bad = ~tf.math.is_finite(tf.stack([tf.cast(loss, tf.float32), total]))
    bad = tf.distribute.get_replica_context().all_reduce(
        tf.distribute.ReduceOp.SUM, tf.cast(bad, tf.float32)
    )
    return bad[0] == 0.0, tf.reduce_sum(bad) == 0.0


def _nothing():
    return None


def _assign_all(variables, values):
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def _assign_everywhere(strategy, variables, values):
    for variable, value in zip(variables, values, strict=True):
        strategy.extended.update(
            variable, lambda v, x: v.assign(x), args=(value,), group=False
        )
