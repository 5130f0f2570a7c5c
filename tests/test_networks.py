import keras
import numpy as np
import pytest
from keras import layers

from byol_keras.byol import BYOL
from byol_keras.networks import EncoderProjector, fresh_copy, is_trained, mlp_head

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


def test_standardized_head_has_mean_0_and_deviation_1_and_no_more_parameters():
    head = mlp_head(64, 8, standardize=True)
    found = head(5.0 + np.random.default_rng(0).random((256, 16)), training=True)
    np.testing.assert_allclose(np.mean(found, axis=0), 0.0, atol=1e-5)
    np.testing.assert_allclose(np.std(found, axis=0), 1.0, atol=1e-2)
    plain = mlp_head(64, 8)
    plain.build((None, 16))
    shapes = [tuple(v.shape) for v in plain.trainable_variables]
    assert [tuple(v.shape) for v in head.trainable_variables] == shapes


def test_only_projections_are_standardized():
    model = BYOL(dense_backbone(), 8, 3, standardize_projections=True)
    for network in (model.online, model.target):
        assert network.projector.layers[-1].name == "standardization"
    assert model.predictor.layers[-1].name == "output"
    rebuilt = BYOL.from_config(model.get_config())
    assert rebuilt.online.projector.layers[-1].name == "standardization"


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


# --- A target that starts at random ---------------------------------------------------


def small_backbone(frozen=0, normalize=False):
    """Convolution and BatchNormalization twice; the first layers may be frozen."""
    images = x = keras.Input((None, None, 3))
    if normalize:
        normalization = layers.Normalization()
        normalization.adapt(np.random.default_rng(0).random((8, 4, 4, 3)))
        x = normalization(x)
    made = []
    for _ in range(2):
        made += [layers.Conv2D(4, 3), layers.BatchNormalization()]
        x = made[-1](made[-2](x))
    for layer in made[:frozen]:
        layer.trainable = False
    return keras.Model(images, layers.GlobalAveragePooling2D()(x))


def kernels(model):
    """Kernels of the convolutions of online and target network."""
    return zip(
        *(
            [w for w in network.backbone.weights if w.name == "kernel"]
            for network in (model.online, model.target)
        ),
        strict=True,
    )


def test_frozen_layers_start_the_same_in_both_networks_and_others_do_not():
    model = BYOL(small_backbone(frozen=2), 8, 3, target_init="random")
    same = [np.array_equal(online, target) for online, target in kernels(model)]
    assert same == [True, False]


def test_frozen_backbone_has_the_same_outputs_in_both_networks():
    backbone = small_backbone()
    backbone.trainable = False
    model = BYOL(backbone, 8, 3, target_init="random")
    images = np.random.default_rng(1).random((4, 8, 8, 3), np.float32)
    online, target = (
        n.backbone(images, training=True) for n in (model.online, model.target)
    )
    np.testing.assert_allclose(online, target, atol=1e-6)


@pytest.mark.parametrize("target_init", ["copy", "random"])
def test_statistics_of_normalization_are_those_of_the_data_in_both_networks(
    target_init,
):
    model = BYOL(small_backbone(normalize=True), 8, 3, target_init=target_init)
    online, target = (n.backbone.layers[1].mean for n in (model.online, model.target))
    assert np.abs(online).min() > 0.1
    np.testing.assert_array_equal(online, target)


@pytest.mark.parametrize("name", ["beta", "gamma", "bias"])
def test_target_of_a_backbone_with_trained_weights_has_nothing_random(name):
    backbone = small_backbone()
    assert not is_trained(backbone, fresh_copy(backbone))
    weight = next(w for w in backbone.weights if w.name == name)
    weight.assign(np.full(weight.shape, 0.5))
    assert is_trained(backbone, fresh_copy(backbone))
    model = BYOL(backbone, 8, 3, target_init="random")
    for online, target in zip(model.online.weights, model.target.weights, strict=True):
        np.testing.assert_array_equal(online, target)


def test_fresh_backbone_starts_at_random_in_the_target():
    model = BYOL(small_backbone(), 8, 3, target_init="random")
    assert not any(np.array_equal(online, target) for online, target in kernels(model))
