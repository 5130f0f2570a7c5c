"""The networks of BYOL beside the backbone: its heads, and encoder with projector."""

import keras
import numpy as np
from keras import ops

from byol_keras.backbones import DEEPMIND_KERNEL

# U(-1/sqrt(fan_in), 1/sqrt(fan_in)). Source: torch's default for `Linear`.
TORCH_KERNEL = {"scale": 1.0 / 3.0, "mode": "fan_in", "distribution": "uniform"}
# Source of "deepmind": DeepMind's heads use haiku's default `Linear` initializer.
HEAD_INITIALIZERS = {"deepmind": DEEPMIND_KERNEL, "mmselfsup": TORCH_KERNEL}


def mlp_head(
    hidden_units: int,
    output_units: int,
    initializer: str = "deepmind",
    standardize: bool = False,
    name: str | None = None,
) -> keras.Sequential:
    """Projector or predictor: Dense, BatchNormalization, ReLU, Dense without bias.

    Args:
        hidden_units: int. Width of the hidden layer; 4096 in the paper.
        output_units: int. Width of the output; 256 in the paper.
        initializer: "deepmind" (truncated normal) or "mmselfsup" (torch's uniform).
        standardize: bool. Whether a BatchNormalization without scale and offset
            follows: outputs have mean 0 and standard deviation 1 over the batch, so
            that no direction which all images share can outweigh the others.
        name: optional model name.

    Returns:
        An unbuilt model, `[B, D]` -> float32 `[B, output_units]`.

    Source: arXiv 2006.07733 §3.3; both code bases leave out the last bias.
        `standardize`: SimSiam (arXiv 2011.10566) and MoCo v3 (arXiv 2104.02057).
    Deviation: the hidden bias starts at 0 for "mmselfsup" too (torch: uniform); the
        BatchNormalization after it removes any bias.
    """
    kernel = HEAD_INITIALIZERS[initializer]

    def kernel_initializer():
        return keras.initializers.VarianceScaling(**kernel)

    layers = [
        keras.layers.Dense(
            hidden_units, kernel_initializer=kernel_initializer(), name="hidden"
        ),
        _batch_norm("bn"),
        keras.layers.ReLU(name="relu"),
        keras.layers.Dense(
            output_units,
            use_bias=False,
            kernel_initializer=kernel_initializer(),
            dtype="float32",
            name="output",
        ),
    ]
    if standardize:
        plain = {"center": False, "scale": False, "dtype": "float32"}
        layers.append(_batch_norm("standardization", **plain))
    return keras.Sequential(layers, name=name)


def _batch_norm(name, **options):
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, synchronized=True, name=name, **options
    )


@keras.saving.register_keras_serializable(package="byol_keras")
class EncoderProjector(keras.Model):
    """Backbone and projector: the architecture that online and target network share.

    Args:
        backbone: `keras.Model`, images -> `[B, D]` or a dict with `avgpool` `[B, D]`.
        projector: `keras.Model`, `[B, D]` -> `[B, P]`.
    """

    def __init__(self, backbone, projector, **kwargs):
        super().__init__(**kwargs)
        self.backbone = backbone
        self.projector = projector

    def build(self, input_shape):
        # A call on a symbolic tensor builds every layer that is not built yet.
        h = self.represent(keras.KerasTensor(input_shape, dtype="float32"))
        shape = getattr(h, "shape", None)
        if shape is None or len(shape) != 2:
            raise ValueError(
                "backbone must return `[B, D]` or a dict whose `avgpool` is `[B, D]`. "
                f"Received: output {type(h).__name__} of shape {shape}"
            )
        self.projector(h)
        self.built = True

    def represent(self, images, training=None):
        """Returns the representation h, `[B, D]`, of images `[B, H, W, C]` in 0..1."""
        outputs = self.backbone(images, training=training)
        if not isinstance(outputs, dict):
            return outputs
        if "avgpool" not in outputs:
            raise ValueError(
                "backbone, which returns a dict, must have the key 'avgpool'. "
                f"Received: {sorted(outputs)}"
            )
        return outputs["avgpool"]

    def call(self, images, training=None):
        h = self.represent(images, training=training)
        return self.projector(h, training=training)

    def get_config(self):
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "projector": keras.saving.serialize_keras_object(self.projector),
            "name": self.name,
        }

    @classmethod
    def from_config(cls, config):
        return cls(**with_models(config, "backbone", "projector"))


def synchronize(model: keras.Model) -> None:
    """Lets BatchNormalization use the statistics of all replicas in training.

    Exported files do not, so that they load on all backends of Keras.
    """
    for layer in batch_norms(model):
        layer.synchronized = True


def batch_norms(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The layers of BatchNormalization of a model and of the models in it."""
    kind = keras.layers.BatchNormalization
    return [layer for layer in model._flatten_layers() if isinstance(layer, kind)]


def fresh_copy(model: keras.Model) -> keras.Model:
    """Returns a model of the same architecture with weights of its own."""
    return type(model).from_config(model.get_config())


def start_at_random(target: EncoderProjector, online: EncoderProjector) -> None:
    """Copies to a target of random weights what must not be random.

    These are the weights that training never changes (frozen layers, and statistics
    such as those of `Normalization`), and everything if the backbone comes with trained
    weights: a moving average with random ones would undo them, and a random projector
    in the target would have the trained backbone predict noise.

    Args:
        target: built, with its initial weights.
        online: built; the network that the target averages.
    """
    if is_trained(online.backbone, target.backbone):
        copy_weights(target, online)
        return
    for copy, source in zip(target.weights, online.weights, strict=True):
        if not source.trainable:
            copy.assign(source)
    take_statistics(target)


def copy_weights(model: keras.Model, source: keras.Model) -> None:
    """Assigns the weights of a model of the same architecture."""
    model.set_weights(source.get_weights())
    take_statistics(model)


def take_statistics(model: keras.Model) -> None:
    """Lets `Normalization` compute with the statistics that it was assigned."""
    for layer in model._flatten_layers():
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()


def is_trained(model: keras.Model, fresh: keras.Model) -> bool:
    """Whether a model comes with trained weights.

    It does if `export.load_backbone` has marked it, or if weights that start as a
    constant, such as biases and the gamma of BatchNormalization, have other values.

    Args:
        model: a built model.
        fresh: its `fresh_copy`, built.
    """
    if getattr(model, "has_trained_weights", False):
        return True
    for weight, start in zip(model.weights, fresh.weights, strict=True):
        if weight.trainable and len(weight.shape) == 1:
            weight, start = map(ops.convert_to_numpy, (weight, start))
            if (start == start[:1]).all() and not np.array_equal(weight, start):
                return True
    return False


def with_models(config: dict, *names: str) -> dict:
    """Returns a `get_config()` in which the models of these names are deserialized."""
    models = {
        name: keras.saving.deserialize_keras_object(config[name]) for name in names
    }
    return {**config, **models}
