"""The recipe of a segmentation benchmark: its settings, checked."""

import dataclasses
from collections.abc import Callable, Sequence

import gin
import keras

from byol_keras.benchmarks.precision import PRECISIONS
from byol_keras.benchmarks.segmentation.augmentation import SegmentationView
from byol_keras.runtime.argument_checks import is_positive_int


@gin.register(module="byol_keras")
@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentationRecipe:
    """Settings for training and testing an FCN. The defaults are published, for VOC.

    Args:
        view: `SegmentationView` of the training images.
        optimizer_fn: (learning_rate) -> Keras optimizer.
        steps: int.
        batch_size: int. Images per step, over all replicas.
        learning_rate: float. Of the first step.
        end_learning_rate: float. Of the last step.
        power: float. Exponent of the share of steps that remain.
        output_stride: int. Pixels between two logits; see `fcn.dilated_twin`.
        channels, auxiliary_channels: int. Of the main and of the auxiliary head.
        auxiliary_weight: float. Of the auxiliary head's loss.
        dropout: float in 0..1. Before the logits of both heads.
        align_corners: bool. How logits are resized; see `fcn.resize_bilinear`.
        test_scale: two ints. Test images are resized to fit them.
        test_window: None to test whole images; or side and stride of a square window.
        precision: of training and prediction; see `precision.PRECISIONS`.
        save_every_steps: int. Steps between two saved states.
        pictures: int. Number of test images that are drawn, from the first on.

    Raises:
        ValueError: if a number is out of its range.

    Source: mmselfsup 0.x, `configs/benchmarks/mmsegmentation/`; see gin/protocol/.
    """

    view: SegmentationView
    optimizer_fn: Callable = dataclasses.field(repr=False)
    steps: int = 20_000
    batch_size: int = 16
    learning_rate: float = 0.01
    end_learning_rate: float = 1e-4
    power: float = 0.9
    output_stride: int = 8
    channels: int = 512
    auxiliary_channels: int = 256
    auxiliary_weight: float = 0.4
    dropout: float = 0.1
    align_corners: bool = False
    test_scale: Sequence[int] = (2048, 512)
    test_window: Sequence[int] | None = None
    precision: str = "float32"
    save_every_steps: int = 1_000
    pictures: int = 8

    def __post_init__(self):
        is_view = isinstance(self.view, SegmentationView)
        _require(is_view, "view", "a SegmentationView", self.view)
        function = self.optimizer_fn
        rule = "a function, without parentheses"
        _require(callable(function), "optimizer_fn", rule, function)
        for name in ("steps", "batch_size", "output_stride", "save_every_steps"):
            value = getattr(self, name)
            _require(is_positive_int(value), name, "a positive int", value)
        for name in ("learning_rate", "power"):
            value = getattr(self, name)
            _require(value > 0, name, "positive", value)
        known = self.precision in PRECISIONS
        _require(known, "precision", f"one of {PRECISIONS}", self.precision)
        _require(0.0 <= self.dropout < 1.0, "dropout", "in 0..1", self.dropout)

    def schedule(self) -> keras.optimizers.schedules.PolynomialDecay:
        """The published "poly" schedule: a power of the share of steps that remain."""
        return keras.optimizers.schedules.PolynomialDecay(
            self.learning_rate, self.steps, self.end_learning_rate, self.power
        )


def _require(holds, argument, rule, received):
    if not holds:
        raise ValueError(
            f"SegmentationRecipe.{argument} must be {rule}. Received: {received!r}"
        )
