"""LARS, and the momentum SGD of the frameworks that the protocols come from."""

import re

import gin
import keras
from keras import ops

DEFAULT_EXCLUDE = (r"(^|/)(bias|gamma|beta)$",)

# The 0.x recipes of mmselfsup look for "bn", "gn" or "bias" in a parameter's name and
# so miss the BatchNormalization scales of the shortcuts ("downsample.1.weight"): these
# are decayed and adapted. The published checkpoints were trained like that.
# Source: open-mmlab/mmselfsup@6faad816, optimizer settings of the BYOL recipes.
MMSELFSUP_0X_EXCLUDE = (r"(^|/)(bias|beta)$", r"(^|(?<!shortcut_bn)/)gamma$")

# Recipes bind `LARS.exclude = %MMSELFSUP_0X_EXCLUDE`.
gin.constant("byol_keras.optimizers.MMSELFSUP_0X_EXCLUDE", MMSELFSUP_0X_EXCLUDE)

_LARS_FORMS = ("deepmind", "mmselfsup")
_MMSELFSUP_NORM_EPSILON = 1e-8


@gin.register(module="byol_keras")
@keras.saving.register_keras_serializable(package="byol_keras")
class LARS(keras.optimizers.Optimizer):
    """Momentum SGD whose step is scaled, per tensor, to the norm of its weights.

    With gradient g, weights w, weight decay d, trust coefficient c, momentum m and
    u = g + d w, one step is

    - `form="deepmind"`: r = c|w| / |u|; v <- m v + r u; w <- w - lr v
    - `form="mmselfsup"`: r = c|w| / (|g| + d|w| + 1e-8); v <- m v + lr r u; w <- w - v

    r is 1 where |w| or the gradient's norm (|u|, respectively |g|) is 0. Excluded
    variables take u = g and r = 1, and keep their momentum.

    Args:
        learning_rate: float, or a `LearningRateSchedule` of the optimizer step.
        momentum: float, in 0..1, 1 not included. Defaults to 0.9.
        weight_decay: float, not negative. Part of the gradient that is adapted, not
            decoupled from it as in Keras' other optimizers. Defaults to 0.
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
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: {momentum!r}")
        if not weight_decay >= 0:  # so that NaN is refused too
            raise ValueError(
                f"`weight_decay` must not be negative. Received: {weight_decay!r}"
            )
        if not trust_coefficient > 0:
            raise ValueError(
                f"`trust_coefficient` must be positive. Received: {trust_coefficient!r}"
            )
        if form not in _LARS_FORMS:
            raise ValueError(f"`form` must be one of {_LARS_FORMS}. Received: {form!r}")
        _check_patterns(exclude)
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum
        # Not under the name `weight_decay`: the base class would apply that one a
        # second time, decoupled from the gradient and to excluded variables too.
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
        gradient = ops.cast(gradient, variable.dtype)
        learning_rate = ops.cast(learning_rate, variable.dtype)
        if not self._excluded[index]:
            gradient = self._adapt(gradient, variable)
        if self.form == "mmselfsup":
            # The rate goes in, so that past steps keep the rate of their own time.
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
    """SGD with momentum and coupled weight decay, as torch and optax compute it.

    With gradient g, weights w, weight decay d, momentum m and u = g + d w, one step is
    v <- m v + u, then w <- w - lr v, or with Nesterov w <- w - lr (u + m v).

    `keras.optimizers.SGD` is another optimizer wherever the learning rate changes or
    weights decay: it keeps the learning rate inside v, so that past gradients keep the
    rate of their own time, and its decay w <- w - lr d w leaves v alone.

    Args:
        learning_rate: float, or a `LearningRateSchedule` of the optimizer step.
        momentum: float, in 0..1, 1 not included. Defaults to 0.9.
        nesterov: bool. Defaults to False.
        weight_decay: float, not negative. Of every variable that was not given to
            `exclude_from_weight_decay`. Defaults to 0.
        **kwargs: the other arguments of `keras.optimizers.Optimizer`.

    Raises:
        ValueError: if `momentum` or `weight_decay` is outside its range.

    Source: torch.optim.SGD without dampening, which mmselfsup 0.x uses; optax.sgd,
        which DeepMind's BYOL uses.
    """

    def __init__(
        self, learning_rate, momentum=0.9, nesterov=False, weight_decay=0.0, **kwargs
    ):
        if not 0 <= momentum < 1:
            raise ValueError(f"`momentum` must be in [0, 1). Received: {momentum!r}")
        if not weight_decay >= 0:  # so that NaN is refused too
            raise ValueError(
                f"`weight_decay` must not be negative. Received: {weight_decay!r}"
            )
        super().__init__(learning_rate, **kwargs)
        self.momentum = momentum
        self.nesterov = nesterov
        # Under the name `weight_decay` the base class would apply it a second time.
        self.coupled_weight_decay = weight_decay

    def build(self, variables):
        if self.built:
            return
        super().build(variables)
        self.momentums = self.add_optimizer_variables(variables, "momentum")

    def update_step(self, gradient, variable, learning_rate):
        momentum = self.momentums[self._get_variable_index(variable)]
        weights = ops.convert_to_tensor(variable)
        gradient = ops.cast(gradient, variable.dtype)
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


def _norm(x):
    # Squares of float16 overflow above 256.
    return ops.sqrt(ops.sum(ops.square(ops.cast(x, "float32"))))


def _check_patterns(exclude: object) -> None:
    rule = "`exclude` must be a sequence of regular expressions"
    # A lone string would be read as a sequence of one-letter patterns.
    if not isinstance(exclude, (list, tuple)):
        raise ValueError(f"{rule}. Received: {exclude!r}")
    for pattern in exclude:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise ValueError(f"{rule}. Received: {pattern!r}") from error
