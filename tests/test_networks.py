import keras
import numpy as np
import pytest
from keras import layers

from byol_keras.byol import BYOL
from byol_keras.networks import EncoderProjector, fresh_copy, mlp_head

from support.small_byol import LazyBackbone, dense_backbone, views


@pytest.fixture(autouse=True)
def _same_initial_weights():
    keras.utils.set_random_seed(0)


@pytest.mark.parametrize(
    ("initializer", "std", "largest"),
    [("deepmind", 0.8796 / 16, 2.0 / 16), ("mmselfsup", 3**-0.5 / 16, 1.0 / 16)],
)
def test_head_has_the_parameters_and_the_initial_kernels_of(initializer, std, largest):
    head = mlp_head(512, 64, initializer)
    head.build((None, 256))
    kernel = head.get_layer("hidden").kernel.numpy()
    np.testing.assert_allclose(kernel.std(), std, rtol=0.02)
    np.testing.assert_allclose(np.abs(kernel).max(), largest, rtol=0.01)
    shapes = [tuple(v.shape) for v in head.trainable_variables]
    assert shapes == [(256, 512), (512,), (512,), (512,), (512, 64)]


def test_default_heads_have_the_published_parameter_counts():
    model = BYOL(LazyBackbone(2048))
    heads = {2048: model.online.projector, 256: model.predictor}
    for size, head in heads.items():
        head.build((None, size))
    counts = [
        sum(int(np.prod(v.shape)) for v in head.trainable_variables)
        for head in heads.values()
    ]
    assert counts == [9_449_472, 2_109_440]


@pytest.mark.parametrize(
    ("outputs", "received"),
    [
        (lambda x: {"feature5": x}, r"avgpool.* Received: \['feature5'\]"),
        (lambda x: x[:, None, None, :], r"Received: .* of shape \(None, 1, 1, 5\)"),
        (lambda x: [x, x], "Received: output list of shape None"),
    ],
    ids=["no_avgpool", "feature_map", "list"],
)
def test_backbone_with_another_output_is_refused_in_one_line(outputs, received):
    images = keras.Input((5,))
    backbone = keras.Model(images, outputs(layers.Dense(5)(images)))
    with pytest.raises(ValueError, match=f"^backbone.*{received}") as error:
        BYOL(backbone, 8, 3)
    assert len(str(error.value).splitlines()) == 1


def test_encoder_projector_applies_the_projector_to_the_representation():
    network = EncoderProjector(dense_backbone(), mlp_head(8, 3))
    images = views(6)[0]
    z = network(images)
    h = network.represent(images)
    assert h.shape == (6, 4)
    np.testing.assert_array_equal(z, network.projector(h))


def test_encoder_projector_is_rebuilt_from_its_configuration():
    network = EncoderProjector(dense_backbone(), mlp_head(8, 3), name="online")
    rebuilt = EncoderProjector.from_config(network.get_config())
    rebuilt.build((None, 5))
    network.build((None, 5))
    assert rebuilt.name == "online"
    shapes = [[w.shape for w in n.get_weights()] for n in (network, rebuilt)]
    assert shapes[0] == shapes[1]


def test_fresh_copy_has_its_own_weights():
    model = dense_backbone()
    copy = fresh_copy(model)
    assert [w.shape for w in copy.weights] == [w.shape for w in model.weights]
    assert not np.array_equal(copy.get_weights()[0], model.get_weights()[0])
