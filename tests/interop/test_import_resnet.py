"""Weights of other systems give our ResNets the features of theirs."""

import json

import numpy as np
import pytest

from byol_keras import backbones
from byol_keras.interop.export_torchvision import torchvision_arrays
from byol_keras.interop.files import ForeignFile, read_file
from byol_keras.interop.import_resnet import import_backbone, summary, variables_of

from support.models import (
    haiku_features,
    haiku_trees,
    torch_features,
    torch_weights,
    write_torch_zip,
)

NARROW = 4  # channels of the stem; torchvision's have 64


def a_file(arrays, **metadata):
    return ForeignFile("safetensors", arrays, metadata)


def narrow(**changes):
    return torch_weights(18, NARROW) | changes


def images(size, seed=0):
    rng = np.random.default_rng(seed)
    return rng.random((2, *size, 3), dtype=np.float32)


def haiku_arrays(depth=50, width=NARROW):
    """Arrays of a checkpoint of DeepMind's BYOL; the target differs."""
    arrays = {}
    for seed, network in enumerate(("online", "target")):
        for kind, tree in zip(
            ("params", "state"), haiku_trees(depth, width, seed), strict=True
        ):
            for module, parts in tree.items():
                for part, value in parts.items():
                    arrays[f"experiment_state/{network}_{kind}/{module}/{part}"] = value
    heads = ("projector/linear/w", "predictor/linear/b", "classifier/w")
    for head in heads:
        arrays[f"experiment_state/online_params/{head}"] = np.zeros(2, np.float32)
    root = f"res_net{depth}/~/"
    momentum = f"experiment_state/opt_state/1/{root}block_group_0/~/block_0/~/conv_0/w"
    return arrays | {momentum: np.zeros(2), "rng": np.zeros(2, np.uint32)}


@pytest.mark.parametrize("depth", [18, 50])
def test_torch_resnet_has_the_features_of_the_original(depth, tmp_path):
    weights = torch_weights(depth)
    file = read_file(write_torch_zip(tmp_path / "weights.pth", weights))
    imported = import_backbone(file)
    assert imported.backbone.name == f"resnet{depth}"
    for size in ((224, 224), (97, 131)):
        expected = torch_features(weights, images(size))
        found = imported.backbone(images(size), training=False)["avgpool"]
        assert np.abs(expected).max() > 0.5
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("seed,network", enumerate(["online", "target"]))
@pytest.mark.parametrize("size", [(64, 64), (49, 75)])
def test_haiku_resnet_has_the_features_of_the_original(seed, network, size):
    imported = import_backbone(a_file(haiku_arrays()), network)
    assert imported.settings["padding"] == "same"
    expected = haiku_features(*haiku_trees(50, NARROW, seed), images(size), 50)
    found = imported.backbone(images(size), training=False)["avgpool"]
    assert np.abs(expected).max() > 0.5
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_every_tensor_of_a_haiku_file_is_accounted_for():
    arrays = haiku_arrays()
    report = summary(import_backbone(a_file(arrays)))
    left_out = {reason: len(names) for reason, names in report["left_out"].items()}
    target = "experiment_state/target_params/res_net50/~/"
    assert left_out == {
        "classifier or head": 1,
        "moving average before haiku's correction": 2 * 2 * 2 * 53,
        "predictor": 1,
        "projector": 1,
        "state of the optimizer": 1,
        "state of the run": 1,
        f"target network, {target}": 5 * 53,
    }
    assert len(report["used"]) == 5 * 53
    assert len(report["used"]) + sum(left_out.values()) == len(arrays)
    json.dumps(report)


@pytest.mark.parametrize(
    ("prefix", "others"),
    [
        ("", ()),
        ("module.encoder_q.", ("module.encoder_k.",)),  # MoCo
        ("state_dict/backbone.", ("state_dict/target_net.module.0.",)),  # mmselfsup 1
        ("state_dict/online_net.0.", ("state_dict/target_net.0.",)),  # mmselfsup 0
        ("state_dict/backbone.", ("state_dict/momentum_backbone.",)),  # solo-learn
        ("student/", ("teacher/",)),
    ],
)
def test_online_network_is_found_under_its_prefix(prefix, others):
    arrays = torch_weights(18, NARROW, prefix)
    for seed, other in enumerate(others, start=1):
        arrays |= torch_weights(18, NARROW, other, seed)
    imported = import_backbone(a_file(arrays))
    assert imported.network.prefix == prefix
    kernel = variables_of(imported.backbone)["stem_conv", "kernel"]
    expected = arrays[f"{prefix}conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)
    assert set(imported.used) | set(imported.left_out) == set(arrays)


@pytest.mark.parametrize("wanted", ["target", "momentum_backbone."])
def test_target_network_is_read_on_request(wanted):
    online = torch_weights(18, NARROW, "backbone.")
    target = torch_weights(18, NARROW, "momentum_backbone.", seed=1)
    imported = import_backbone(a_file(online | target), wanted)
    kernel = variables_of(imported.backbone)["stem_conv", "kernel"]
    expected = target["momentum_backbone.conv1.weight"].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)
    assert imported.left_out["backbone.conv1.weight"] == "another network, backbone."


def test_only_network_is_read_even_if_it_is_a_target():
    imported = import_backbone(a_file(torch_weights(18, NARROW, "teacher.")))
    assert imported.network.prefix == "teacher."


def test_network_that_the_file_lacks_is_refused():
    with pytest.raises(ValueError, match=r"network must .* one of ''. Received: 'x'"):
        import_backbone(a_file(narrow()), "x")


def test_network_in_a_sequential_is_the_same_network():
    """lightly's backbones are `Sequential(*resnet.children())`."""
    arrays, renamed = narrow(), {}
    for name, value in arrays.items():
        part, _, rest = name.partition(".")
        places = {"conv1": 0, "bn1": 1, "fc": 9}
        place = places[part] if part in places else int(part[-1]) + 3
        if part != "fc":
            renamed[f"backbone.{place}.{rest}"] = value
    found = import_backbone(a_file(renamed | {"projection_head.0.weight": np.ones(1)}))
    expected = import_backbone(a_file(arrays)).backbone
    for one, other in zip(found.backbone.weights, expected.weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert found.left_out["projection_head.0.weight"] == "projector"


def test_other_parts_of_a_file_are_left_out_with_the_reason():
    reasons = {
        "bn1.num_batches_tracked": "counter of torch's BatchNorm",
        "neck.fc0.weight": "projector",
        "online_net.1.fc0.weight": "projector",
        "head.predictor.fc0.weight": "predictor",
        "prediction_head.layers.0.weight": "predictor",
        "classifier.weight": "classifier or head",
        "queue": "queue of another method",
        "queue_ptr": "queue of another method",
        "target_net.steps": "state of the run",
        "optimizer/state/0/momentum_buffer": "state of the optimizer",
        "data_preprocessor.mean": "normalisation of images; see mean and std",
    }
    others = {name: np.zeros(3, np.float32) for name in reasons}
    left_out = import_backbone(a_file(narrow(**others))).left_out
    assert {name: left_out[name] for name in reasons} == reasons


def slow(depth):
    return pytest.param(depth, marks=pytest.mark.slow)


@pytest.mark.parametrize("depth", [18, 34, 50, slow(101), slow(152), slow(200)])
def test_depth_is_found_from_the_names(depth):
    builder = getattr(backbones, f"resnet{depth}")
    theirs, _ = torchvision_arrays(builder(width=0.03125, padding="torch"))
    assert import_backbone(a_file(theirs)).settings["depth"] == depth


def test_width_stem_and_channels_are_found_from_the_shapes():
    backbone = backbones.resnet18(5, 0.125, "cifar", "torch")
    arrays, _ = torchvision_arrays(backbone)
    mean, std = [0.1] * 5, [0.2] * 5
    settings = import_backbone(a_file(arrays), mean=mean, std=std).settings
    assert settings == {
        "depth": 18,
        "channels": 5,
        "width": 0.125,
        "stem": "cifar",
        "padding": "torch",
        "mean": mean,
        "std": std,
    }


def test_stem_can_be_given_where_shapes_do_not_determine_it():
    arrays, _ = torchvision_arrays(backbones.resnet18(3, 0.0625, "small", "torch"))
    imported = import_backbone(a_file(arrays), stem="small")
    assert imported.backbone.get_layer("stem_conv").strides == (2, 2)


def test_one_mean_and_std_apply_to_all_channels():
    imported = import_backbone(a_file(narrow()), mean=[0.0], std=[1.0])
    normalization = imported.backbone.get_layer("normalization")
    np.testing.assert_array_equal(normalization(images((2, 2))), images((2, 2)))


def test_normalisation_is_imagenets_by_default():
    backbone = import_backbone(a_file(narrow())).backbone
    normalization = backbone.get_layer("normalization")
    pixels = np.array([[[[0.485, 0.456, 0.406 + 0.225]]]], np.float32)
    np.testing.assert_allclose(np.ravel(normalization(pixels)), [0, 0, 1], atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_floats_are_converted_to_float32_and_reported(dtype):
    arrays = {
        name: value.astype(dtype) if value.dtype == np.float32 else value
        for name, value in narrow().items()
    }
    imported = import_backbone(a_file(arrays))
    assert set(imported.used.values()) == {np.dtype(dtype).name}
    kernel = variables_of(imported.backbone)["stem_conv", "kernel"].numpy()
    expected = arrays["conv1.weight"].astype(np.float32)
    np.testing.assert_array_equal(kernel, expected.transpose(2, 3, 1, 0))


def without(*names):
    arrays = narrow()
    for name in names:
        del arrays[name]
    return arrays


def first_block_with_projection():
    """The first block of DeepMind's ResNet-18, which is not published."""
    arrays = haiku_arrays(18)
    block = "experiment_state/online_params/res_net18/~/block_group_0/~/block_0/~/"
    return arrays | {f"{block}shortcut_conv/w": np.zeros((1, 1, 4, 4), np.float32)}


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        (without("layer2.0.bn1.bias"), "without layer2.0.bn1.bias"),
        (without("layer3.1.conv1.weight", "bn1.weight"), "without bn1.weight"),
        (without("conv1.weight"), "without conv1.weight"),
        (narrow(**{"conv1.bias": np.zeros(4, np.float32)}), "with conv1.bias"),
        (
            narrow(**{"layer1.0.se.fc.0.weight": np.zeros(4, np.float32)}),
            "with layer1.0.se.fc.0.weight",
        ),
        (narrow(mystery=np.zeros(4, np.float32)), "with mystery"),
        (
            narrow(**{"layer1.0.bn1.bias": np.zeros(5, np.float32)}),
            "layer1.0.bn1.bias of shape (5,), not (4,)",
        ),
        (
            narrow(**{"layer1.0.bn1.bias": np.zeros(4, np.int32)}),
            "layer1.0.bn1.bias of int32",
        ),
        (
            narrow(**{"layer4.2.conv1.weight": np.zeros(4, np.float32)}),
            "Received: basic blocks (2, 2, 2, 3)",
        ),
        (
            narrow(**{"conv1.weight": np.zeros((4, 3, 5, 5), np.float32)}),
            "conv1.weight of shape (4, 3, 5, 5)",
        ),
        (first_block_with_projection(), "block_0/~/shortcut_conv/w"),
        ({"blocks.0.attn.qkv.weight": np.zeros(1)}, "blocks.0.attn.qkv.weight"),
        ({}, "no tensors"),
        (
            torch_weights(18, NARROW, "a.") | torch_weights(18, NARROW, "b."),
            "'a.', 'b.'",
        ),
        (
            narrow(**{"conv1.weight": np.zeros((4, 2, 7, 7), np.float32)}),
            "mean and std must be given for images of 2 channels",
        ),
    ],
)
def test_file_that_does_not_fit_is_refused_with_the_reason_in_one_line(arrays, said):
    with pytest.raises(ValueError, match="must") as caught:
        import_backbone(a_file(arrays))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_unknown_tensors_outside_of_the_network_can_be_left_out():
    arrays = narrow(**{"mystery.a": np.zeros(4), "mystery.b": np.zeros(4)})
    imported = import_backbone(a_file(arrays), leave_out=["mystery."])
    assert imported.left_out["mystery.b"] == "requested by leave_out"


def test_tensors_of_the_network_itself_cannot_be_left_out():
    arrays = narrow(**{"layer1.0.se.weight": np.zeros(4)})
    with pytest.raises(ValueError, match=r"with layer1\.0\.se\.weight"):
        import_backbone(a_file(arrays), leave_out=["layer1."])


def test_long_lists_of_names_are_shortened():
    names = {f"mystery.{i}": np.zeros(1) for i in range(20)}
    with pytest.raises(ValueError, match="and 12 more"):
        import_backbone(a_file(narrow(**names)))
