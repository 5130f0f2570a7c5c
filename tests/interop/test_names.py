"""Names of weights in other systems, typed here from their checkpoints."""

import pytest

from byol_keras.interop.names import (
    SCHEMES,
    is_optimizer,
    is_target,
    reason_to_leave_out,
    torch_name,
)

TORCHVISION, SEQUENTIAL, HAIKU = SCHEMES


@pytest.mark.parametrize(
    "layer, variable, name",
    [
        ("stem_conv", "kernel", "conv1.weight"),
        ("stem_bn", "moving_variance", "bn1.running_var"),
        ("stage2_block1_bn1", "gamma", "layer1.0.bn1.weight"),
        ("stage5_block3_conv2", "kernel", "layer4.2.conv2.weight"),
        ("stage3_block1_shortcut_conv", "kernel", "layer2.0.downsample.0.weight"),
        ("stage3_block1_shortcut_bn", "beta", "layer2.0.downsample.1.bias"),
    ],
)
def test_torchvision_name(layer, variable, name):
    assert torch_name(layer, variable) == name
    assert TORCHVISION.name("backbone.", layer, variable) == f"backbone.{name}"


@pytest.mark.parametrize(
    "layer, variable, name",
    [
        ("stem_conv", "kernel", "0.weight"),
        ("stem_bn", "beta", "1.bias"),
        ("stage2_block1_conv1", "kernel", "4.0.conv1.weight"),
        ("stage5_block1_shortcut_bn", "gamma", "7.0.downsample.1.weight"),
    ],
)
def test_name_in_a_sequential(layer, variable, name):
    assert SEQUENTIAL.name("", layer, variable) == name


def test_haiku_name_of_parameters_and_moving_averages():
    prefix = "online_params/res_net50/~/"
    block = "block_group_0/~/block_0/~"
    parameter = HAIKU.name(prefix, "stage2_block1_bn1", "gamma")
    assert parameter == f"{prefix}{block}/batchnorm_0/scale"
    average = HAIKU.name(prefix, "stage2_block1_shortcut_bn", "moving_mean")
    state = "online_state/res_net50/~/"
    assert average == f"{state}{block}/shortcut_batchnorm/~/mean_ema/average"


@pytest.mark.parametrize(
    "prefix, expected",
    [
        ("target_net.0.", True),
        ("momentum_backbone.", True),
        ("module.encoder_k.", True),
        ("teacher.", True),
        ("module.encoder_q.", False),
        ("schema.", False),
    ],
)
def test_prefix_of_a_target_network(prefix, expected):
    assert is_target(prefix) is expected


def test_state_of_an_optimizer_is_recognised():
    assert is_optimizer("optimizer/state/0/momentum_buffer")
    assert not is_optimizer("layer1.0.conv1.weight")


def test_projector_inside_of_the_network_is_not_left_out():
    assert reason_to_leave_out("neck.fc0.weight", inside=False) == "projector"
    assert reason_to_leave_out("neck.fc0.weight", inside=True) is None
    counter = "bn1.num_batches_tracked"
    assert reason_to_leave_out(counter, inside=True) == "counter of torch's BatchNorm"


def test_unknown_tensor_has_no_reason():
    assert reason_to_leave_out("mystery.weight", inside=False) is None
