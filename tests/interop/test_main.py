"""The interop command reports every tensor, and a mistake in one line."""

import json

import numpy as np
import pytest

from byol_keras import backbones
from byol_keras.export import load_backbone
from byol_keras.interop import __main__ as interop

from support import ROOT
from support.models import torch_features, torch_weights, write_torch_zip
from support.processes import command_line

pytest.importorskip("safetensors")


def errors_of(done):
    return [x for x in done.stderr.splitlines() if x.startswith("error: ")]


def test_torch_file_is_converted_to_a_backbone_that_loads(tmp_path):
    weights = torch_weights(18, 8)
    source = write_torch_zip(tmp_path / "resnet.pth", weights)
    target, report = tmp_path / "new" / "backbone.keras", tmp_path / "report.json"
    done = command_line(
        "interop",
        f"--from={source}",
        f"--to={target}",
        f"--json={report}",
        "--std=0.3,0.4,0.5",
    )
    assert done.returncode == 0, done.stderr
    for shown in ("resnet18", "0.125", "100 tensors of float32", "20: bn1.num_batches"):
        assert shown in done.stdout
    report = json.loads(report.read_text())
    names = [name for group in report["left_out"].values() for name in group]
    assert {*report["used"], *names} == set(weights)
    assert report["settings"]["std"] == [0.3, 0.4, 0.5]
    images = np.random.default_rng(0).random((2, 45, 64, 3), np.float32)
    rescaled = (images - [0.485, 0.456, 0.406]) / [0.3, 0.4, 0.5]
    rescaled = rescaled * [0.229, 0.224, 0.225] + [0.485, 0.456, 0.406]
    expected = torch_features(weights, rescaled.astype(np.float32))
    found = load_backbone(target)(images, training=False)["avgpool"]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_malicious_file_ends_with_one_line_and_exit_code_2(tmp_path):
    marker, source = tmp_path / "marker", tmp_path / "weights.pkl"
    source.write_bytes(f"\x80\x02cos\nsystem\n(S'touch {marker}'\ntR.".encode("latin1"))
    done = command_line("interop", f"--from={source}", f"--to={tmp_path / 'b.keras'}")
    assert done.returncode == 2
    (error,) = errors_of(done)
    assert error.startswith("error: --from must be a file of arrays")
    assert error.endswith("weights.pkl, which names os.system")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["weights.pkl"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "error: --from must name a file. Received: none"),
        (["--from=a.pth", "--to=b"], "error: --to must end in .keras or .safetensors"),
        (["--from=a.pth", "--to=b.keras", "--mean=x"], "error: --mean must be numbers"),
    ],
)
def test_wrong_argument_is_one_line_and_exit_code_2(arguments, expected):
    done = command_line("interop", *arguments)
    assert done.returncode == 2
    (error,) = errors_of(done)
    assert error.startswith(expected)


def test_pretraining_can_start_from_a_backbone(tmp_path):
    file = tmp_path / "backbone.keras"
    backbones.resnet18(1, 0.0625, "small").save(file)
    fragments = (
        "data/fashion_mnist_small",
        "views/fashion_mnist_28",
        "optimizer/sgd",
    )
    bindings = (
        "train.backbone_fn=@pretrained_backbone",
        f'pretrained_backbone.file="{file}"',
        "train.model_fn=@BYOL",
        "train.target_ema_fn=@TargetEMA",
        "train.epochs=2",
        "train.batch_size=64",
    )
    words = [f"--gin_file={ROOT}/gin/{fragment}.gin" for fragment in fragments]
    words += [f"--gin_param={binding}" for binding in bindings]
    done = command_line("train", "--dry_run", *words)
    assert done.returncode == 0, done.stderr
    assert "backbone 44,220, projector" in done.stdout  # not of a recipe's ResNet


def test_normalization_none_leaves_images_unchanged():
    assert interop.NORMALIZATIONS["none"] == ([0.0], [1.0])
