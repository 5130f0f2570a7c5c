"""LARS, and momentum SGD as torch and optax define it."""

import re

import gin
import keras
import tensorflow as tf
from keras import ops

from byol_keras.runtime.argument_checks import check_choice

DEFAULT_EXCLUDE = (r"(^|/)(bias|gamma|beta)$",)

# The 0.x recipes of mmselfsup exclude parameters with "bn", "gn" or "bias" in the name.
# This misses the BatchNormalization scales of the shortcuts ("downsample.1.weight"),
# which are decayed and adapted. The published checkpoints were trained this way.
# Source: open-mmlab/mmselfsup@6faad816, optimizer settings of the BYOL recipes.
MMSELFSUP_0X_EXCLUDE = (r"(^|/)(bias|beta)$", r"(^|(?<!shortcut_bn)/)gamma$")

# Recipes bind `LARS.exclude = %MMSELFSUP_0X_EXCLUDE`.
gin.constant("byol_keras.optimizers.MMSELFSUP_0X_EXCLUDE", MMSELFSUP_0X_EXCLUDE)

_LARS_FORMS = ("deepmind", "mmselfsup")
_MMSELFSUP_NORM_EPSILON = 1e-8


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class LARS(keras.optimizers.Optimizer):
    """Momentum SGD with a step scaled, per tensor, to the norm of the weights.

    With gradient g, weights w, weight decay d, trust coefficient c, momentum m and
    u = g + d w, one step is

    - `form="deepmind"`: r = c|w| / |u|; v <- m v + r u; w <- w - lr v
    - `form="mmselfsup"`: r = c|w| / (|g| + d|w| + 1e-8); v <- m v + lr r u; w <- w - v

    r is 1 where |w| or the gradient's norm (|u|, respectively |g|) is 0. For excluded
    variables u = g and r = 1; momentum applies to them too.

    Args:
        learning_rate: float, or a `LearningRateSchedule` of the optimizer step.
        momentum: float, in 0..1, 1 excluded. Defaults to 0.9.
        weight_decay: float, not negative. Added to the gradient before it is adapted;
            Keras' other optimizers decouple it. Defaults to 0.
        trust_coefficient: float, positive. Defaults to 1e-3.
        form: "deepmind" or "mmselfsup".
        exclude: sequence of regular expressions, searched in `variable.path` (such as
            `"stage2_block1_bn1/gamma"`). Defaults to biases and BatchNormalization's
            gamma and beta.
        **kwargs: the other arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: if an argument is outside its range, or `exclude` is not a
            sequence of valid regular expressions.

    Source: You et al. 2017 (arXiv 1708.03888); deepmind-research
        `byol/utils/optimizers.py`; mmselfsup 0.x `core/optimizer/optimizers.py`.
    """

    def __init__(
        self,
        learning_rate,
        momentum=0.9,
        weight_decay=0.0,
        trust_coefficient=1e-3,
        form="deepmind",
        exclude=DEFAULT_EXCLUDE,
        **kwargs,
    ):
        _check_momentum_and_decay(momentum, weight_decay)
        if not trust_coefficient > 0:
            raise ValueError(
                f"trust_coefficient must be positive. Received: {trust_coefficient!r}"
            )
        check_choice("form", form, _LARS_FORMS)
        _check_patterns(exclude)
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum
        # The base class would apply an attribute named `weight_decay` a second time,
        # decoupled from the gradient and to excluded variables too.
        self.coupled_weight_decay = weight_decay
        self.trust_coefficient = trust_coefficient
        self.form = form
        self.exclude = tuple(exclude)

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")
        # `update_step` receives TensorFlow variables, which have no Keras path.
        self._excluded = tuple(self.is_excluded(variable) for variable in variables)

    def is_excluded(self, variable: keras.Variable) -> bool:
        """Whether the variable takes plain momentum steps without weight decay."""
        return any(re.search(pattern, variable.path) for pattern in self.exclude)

    def update_step(self, gradient, variable, learning_rate):
        index = self._get_variable_index(variable)
        gradient = _dense(gradient, variable.dtype)
        learning_rate = ops.cast(learning_rate, variable.dtype)
        if not self._excluded[index]:
            gradient = self._adapt(gradient, variable)
        if self.form == "mmselfsup":
            # With the rate inside, past gradients keep the rate of their own step.
            gradient, learning_rate = learning_rate * gradient, 1.0
        velocity = self.momentum * self.momentums[index] + gradient
        self.assign(self.momentums[index], velocity)
        self.assign_sub(variable, learning_rate * velocity)

    def _adapt(self, gradient, variable):
        weights = ops.convert_to_tensor(variable)
        decay = self.coupled_weight_decay
        decayed = gradient + decay * weights
        weight_norm = _norm(weights)
        if self.form == "deepmind":
            gradient_norm = divisor = _norm(decayed)
        else:
            gradient_norm = _norm(gradient)
            divisor = gradient_norm + decay * weight_norm + _MMSELFSUP_NORM_EPSILON
        ratio = ops.where(
            ops.logical_and(weight_norm > 0, gradient_norm > 0),
            ops.divide_no_nan(self.trust_coefficient * weight_norm, divisor),
            1.0,
        )
        return ops.cast(ratio, decayed.dtype) * decayed

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "weight_decay": self.coupled_weight_decay,
            "trust_coefficient": self.trust_coefficient,
            "form": self.form,
            "exclude": list(self.exclude),
        }


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class MomentumSGD(keras.optimizers.Optimizer):
    """SGD with momentum and coupled weight decay, as in torch and optax.

    With gradient g, weights w, weight decay d, momentum m and u = g + d w, one step is
    v <- m v + u, then w <- w - lr v, or with Nesterov w <- w - lr (u + m v).

    `keras.optimizers.SGD` differs if the learning rate changes or weights decay. Its v
    includes the learning rate, so past gradients keep the rate of their own step, and
    its decay w <- w - lr d w does not enter v.

    Args:
        learning_rate: float, or a `LearningRateSchedule` of the optimizer step.
        momentum: float, in 0..1, 1 excluded. Defaults to 0.9.
        nesterov: bool. Defaults to False.
        weight_decay: float, not negative. Applies to every variable, biases and
            BatchNormalization's gamma and beta included, that
            `exclude_from_weight_decay` does not list. Defaults to 0.
        **kwargs: the other arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: if `momentum` or `weight_decay` is outside its range.

    Source: torch.optim.SGD without dampening, which mmselfsup 0.x uses; optax.sgd,
        which DeepMind's BYOL uses.
    """

    def __init__(
        self, learning_rate, momentum=0.9, nesterov=False, weight_decay=0.0, **kwargs
    ):
        _check_momentum_and_decay(momentum, weight_decay)
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum
        self.nesterov = nesterov
        # The base class would apply an attribute named `weight_decay` a second time.
        self.coupled_weight_decay = weight_decay

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        momentum = self.momentums[self._get_variable_index(variable)]
        weights = ops.convert_to_tensor(variable)
        gradient = _dense(gradient, variable.dtype)
        if self._use_weight_decay(variable):
            gradient = gradient + self.coupled_weight_decay * weights
        velocity = self.momentum * momentum + gradient
        self.assign(momentum, velocity)
        step = gradient + self.momentum * velocity if self.nesterov else velocity
        self.assign_sub(variable, ops.cast(learning_rate, variable.dtype) * step)

    def get_config(self):
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "weight_decay": self.coupled_weight_decay,
        }


def _dense(gradient, dtype):
    # Gradients of `keras.layers.Embedding` are `tf.IndexedSlices`.
    return ops.cast(tf.convert_to_tensor(gradient), dtype)


def _norm(x):
    # Squares of float16 overflow above 256.
    return ops.sqrt(ops.sum(ops.square(ops.cast(x, "float32"))))


def _check_momentum_and_decay(momentum, weight_decay):
    # Written so that NaN fails too.
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1). Received: {momentum!r}")
    if not weight_decay >= 0:
        raise ValueError(
            f"weight_decay must not be negative. Received: {weight_decay!r}"
        )


def _check_patterns(exclude: object) -> None:
    rule = "exclude must be a sequence of regular expressions"
    # A string is a sequence of one-letter patterns.
    if not isinstance(exclude, (list, tuple)):
        raise ValueError(f"{rule}. Received: {exclude!r}")
    for pattern in exclude:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(f"{rule}. Received: {pattern!r}") from error
