"""Records what run folders, files and fingerprints of this version look like.

    python tests/compatibility/record.py

`test_compatibility.py` holds later versions against it: a run must resume, a file must
load and a stored score must count after an update. Record anew only where a change of
what is stored is meant, and say in the commit what users lose.
"""

import json
import os
import pathlib
import sys
import tempfile

import byol_keras  # sets what TensorFlow reads when it is imported, so it comes first

# isort: split
import gin
import keras
import numpy as np

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
DATA = HERE / "recorded"
BENCHMARKS = ("knn_fashion_mnist_small", "logistic_fashion_mnist_small")


def recipes() -> dict[str, dict]:
    """Recipe -> what gin holds after a dry run of it, and its fingerprint."""
    from byol_keras import train
    from byol_keras.checkpoints.fingerprint import fingerprint

    from support.recipes import PRETRAIN, parse, stand_in_bindings

    found = {}
    for case in PRETRAIN:
        path = case.values[0]
        gin.clear_config()
        parse(path, *stand_in_bindings(path))
        train.train(None, strategy="cpu", dry_run=True)
        found[path.stem] = {
            "operative_config": gin.operative_config_str(),
            "fingerprint": fingerprint(num_examples=7),
        }
    keras.config.set_dtype_policy("float32")
    return found


def identities(backbone: pathlib.Path) -> dict[str, dict]:
    """Benchmark -> all that a stored result of it is a function of.

    The digest of data in files follows the time of their checkout and is left out.
    """
    from byol_keras.benchmarks import __main__ as main
    from byol_keras.benchmarks import measure
    from byol_keras.config.parse import parse_gin

    measure.run_with_baselines = lambda *_, **__: ({"trained": [{"none": 0.0}]}, {})
    found = {}
    for name in BENCHMARKS:
        gin.clear_config()
        parse_gin([str(HERE.parents[1] / f"gin/benchmarks/{name}.gin")], [])
        with tempfile.TemporaryDirectory() as folder:
            main.benchmark(str(backbone), folder)
            (record,) = pathlib.Path(folder).glob("benchmarks/*.json")
            identity = json.loads(record.read_text())["identity"]
        identity["data"] = sorted(identity["data"])
        found[name] = identity
    return found


def model():
    """A compiled BYOL that has trained for a few steps, with a schedule of ours."""
    from byol_keras.schedules import RunLength, warmup_cosine

    keras.utils.set_random_seed(0)
    backbone = byol_keras.resnet18(channels=1, width=0.0625, stem="small")
    made = byol_keras.BYOL(backbone, hidden_units=8, output_units=4)
    length = RunLength(64, 8, 2)
    rate = warmup_cosine(length, base_learning_rate=0.3, warmup_epochs=1)
    made.compile(byol_keras.LARS(learning_rate=rate))
    views = np.random.default_rng(0).random((2, 8, 16, 16, 1), np.float32)
    ema = byol_keras.TargetEMA(base_tau=0.9, total_steps=length.total_steps)
    made.fit(*views_dataset(views), verbose=0, callbacks=[ema])
    return made


def views_dataset(views):
    import tensorflow as tf

    return (tf.data.Dataset.from_tensors(tuple(views)).repeat(3),)


def files() -> None:
    """A checkpoint, a `.keras` file of a whole model, an export, and their outputs."""
    from byol_keras.checkpoints.files import CheckpointFolder
    from byol_keras.checkpoints.variables import arrays_of

    made = model()
    folder = CheckpointFolder(DATA / "checkpoints", 1)
    folder.save(3, arrays_of(made), {"config": {"train.epochs": "2"}})
    folder.close()
    made.save(DATA / "byol.keras")
    byol_keras.export_backbone(made.online.backbone, DATA / "export")
    images = np.linspace(0.0, 1.0, 2 * 16 * 16, dtype=np.float32)
    images = images.reshape(2, 16, 16, 1)
    np.savez(
        DATA / "outputs.npz",
        images=images,
        avgpool=made.online.backbone(images)["avgpool"],
        predictions=made(images),
    )


def write(name: str, value: object) -> None:
    """Writes JSON, sorted, so that a diff shows what has changed."""
    text = json.dumps(value, indent=1, sort_keys=True)
    (DATA / f"{name}.json").write_text(text + "\n")


if __name__ == "__main__":
    os.makedirs(DATA, exist_ok=True)
    files()
    write("recipes", recipes())
    write("identities", identities(DATA / "export"))
