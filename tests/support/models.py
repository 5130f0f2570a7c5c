"""Small backbones, and weight files of other systems."""

import pickle
import struct
import zipfile

import gin
import keras
import numpy as np
import tensorflow as tf

from byol_keras.export import export_backbone


def export_five_stages(folder):
    """Exports it, of three channels, and returns the path of the `.keras` file."""
    images = maps = keras.Input((None, None, 3))
    features = {}
    for stage in range(1, 6):
        strides = 2 if stage < 5 else 1
        maps = keras.layers.Conv2D(2, 3, strides, padding="same")(maps)
        features[f"feature{stage}"] = maps
    features["avgpool"] = keras.layers.GlobalAveragePooling2D()(maps)
    export_backbone(keras.Model(images, features), folder)
    return str(folder / "backbone.keras")


BLOCKS = {18: (False, (2, 2, 2, 2)), 50: (True, (3, 4, 6, 3))}
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def layers_of(depth, width):
    """(block or None, convolution's number or "shortcut", kernel, stride, in, out)."""
    bottleneck, counts = BLOCKS[depth]
    channels = width
    yield None, 1, 7, 2, 3, width
    for stage, blocks in enumerate(counts):
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            inner = width * 2**stage
            outer = 4 * inner if bottleneck else inner
            shapes = [(3, stride, channels, inner), (3, 1, inner, inner)]
            if bottleneck:
                shapes = [(1, 1, channels, inner), (3, stride, inner, inner)]
                shapes.append((1, 1, inner, outer))
            for number, shape in enumerate(shapes, start=1):
                yield (stage, block), number, *shape
            if stride > 1 or channels != outer:
                yield (stage, block), "shortcut", 1, stride, channels, outer
            channels = outer


def random_layer(rng, kernel, fan_in, fan_out):
    """Kernel in height, width, in, out, and gamma, beta, mean and variance."""
    shape = (kernel, kernel, fan_in, fan_out)
    draws = [
        rng.standard_normal(shape) * (2 / (kernel * kernel * fan_in)) ** 0.5,
        rng.uniform(0.5, 1.0, fan_out),
        rng.standard_normal(fan_out) * 0.1,
        rng.standard_normal(fan_out) * 0.1,
        rng.uniform(0.5, 1.5, fan_out),
    ]
    return [draw.astype(np.float32) for draw in draws]


def torch_weights(depth, width=64, prefix="", seed=0):
    """A state dict of torchvision's ResNet, with its classifier and counters."""
    rng, weights = np.random.default_rng(seed), {}
    for block, number, kernel, _, fan_in, fan_out in layers_of(depth, width):
        start = f"layer{block[0] + 1}.{block[1]}." if block else ""
        names = f"{start}conv{number}", f"{start}bn{number}"
        if number == "shortcut":
            names = f"{start}downsample.0", f"{start}downsample.1"
        values = random_layer(rng, kernel, fan_in, fan_out)
        weights[f"{names[0]}.weight"] = values[0].transpose(3, 2, 0, 1).copy()
        parts = ("weight", "bias", "running_mean", "running_var")
        for part, value in zip(parts, values[1:], strict=True):
            weights[f"{names[1]}.{part}"] = value
        weights[f"{names[1]}.num_batches_tracked"] = np.array(7, np.int64)
    weights["fc.weight"] = rng.standard_normal((10, fan_out)).astype(np.float32)
    weights["fc.bias"] = np.zeros(10, np.float32)
    return {prefix + name: value for name, value in weights.items()}


def torch_features(weights, images):
    """What torchvision's ResNet puts out before `fc`; every padding is spelt out."""

    def conv(x, name, stride=1):
        kernel = weights[f"{name}.weight"].transpose(2, 3, 1, 0)
        pad = [kernel.shape[0] // 2] * 2
        return tf.nn.conv2d(x, kernel, stride, [[0, 0], pad, pad, [0, 0]])

    def norm(x, name):
        scale = weights[f"{name}.weight"] / np.sqrt(
            weights[f"{name}.running_var"] + 1e-5
        )
        return (x - weights[f"{name}.running_mean"]) * scale + weights[f"{name}.bias"]

    x = tf.nn.relu(norm(conv((images - MEAN) / STD, "conv1", 2), "bn1"))
    x = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], constant_values=-np.inf)
    x = tf.nn.max_pool2d(x, 3, 2, "VALID")
    for stage in range(1, 5):
        block = 0
        while (start := f"layer{stage}.{block}.") + "conv1.weight" in weights:
            stride = 2 if stage > 1 and block == 0 else 1
            is_bottleneck = f"{start}conv3.weight" in weights
            strides = (1, stride, 1) if is_bottleneck else (stride, 1)
            y = x
            for i, step in enumerate(strides, start=1):
                y = norm(conv(y, f"{start}conv{i}", step), f"{start}bn{i}")
                y = tf.nn.relu(y) if i < len(strides) else y
            if f"{start}downsample.0.weight" in weights:
                x = conv(x, f"{start}downsample.0", stride)
                x = norm(x, f"{start}downsample.1")
            x = tf.nn.relu(x + y)
            block += 1
    return tf.reduce_mean(x, [1, 2]).numpy()


def haiku_trees(depth, width, seed=0):
    """Parameters and states of haiku's ResNet, by module."""
    rng, params, state = np.random.default_rng(seed), {}, {}
    for block, number, kernel, _, fan_in, fan_out in layers_of(depth, width):
        conv, norm = "initial_conv", "initial_batchnorm"
        if block:
            start = f"block_group_{block[0]}/~/block_{block[1]}/~/"
            is_shortcut = number == "shortcut"
            conv = start + ("shortcut_conv" if is_shortcut else f"conv_{number - 1}")
            norm = conv.replace("conv", "batchnorm")
        values = random_layer(rng, kernel, fan_in, fan_out)
        values[1:] = [value.reshape(1, 1, 1, -1) for value in values[1:]]
        root = f"res_net{depth}/~/"
        params[root + conv] = {"w": values[0]}
        params[root + norm] = {"scale": values[1], "offset": values[2]}
        for kind, value in (("mean", values[3]), ("var", values[4])):
            state[f"{root}{norm}/~/{kind}_ema"] = {
                "average": value,
                "hidden": value * np.float32(0.9),
                "counter": np.array(3, np.int32),
            }
    return params, state


def haiku_features(params, state, images, depth):
    """What haiku's ResNet puts out before its classifier, in NumPy alone."""
    root = f"res_net{depth}/~/"

    def windows(x, size, stride, value):
        pads = [(0, 0)]
        for length in x.shape[1:3]:
            total = max((-(-length // stride) - 1) * stride + size - length, 0)
            pads.append((total // 2, total - total // 2))
        x = np.pad(x, [*pads, (0, 0)], constant_values=value)
        views = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
        return views[:, ::stride, ::stride]  # [B, h, w, C, size, size]

    def conv(x, name, stride=1):
        kernel = params[root + name]["w"].astype(np.float64)
        views = windows(x, kernel.shape[0], stride, 0.0)
        return np.einsum("bhwcij,ijcd->bhwd", views, kernel, optimize=True)

    def norm(x, name):
        mean = state[f"{root}{name}/~/mean_ema"]["average"]
        variance = state[f"{root}{name}/~/var_ema"]["average"]
        own = params[root + name]
        return (x - mean) / np.sqrt(variance + 1e-5) * own["scale"] + own["offset"]

    x = conv((images - MEAN) / STD, "initial_conv", 2)
    x = np.maximum(norm(x, "initial_batchnorm"), 0)
    x = windows(x, 3, 2, -np.inf).max((-2, -1))
    bottleneck, counts = BLOCKS[depth]
    for group, blocks in enumerate(counts):
        for block in range(blocks):
            start = f"block_group_{group}/~/block_{block}/~/"
            stride = 2 if group and not block else 1
            strides = (1, stride, 1) if bottleneck else (stride, 1)
            y = x
            for i, step in enumerate(strides):
                y = norm(conv(y, f"{start}conv_{i}", step), f"{start}batchnorm_{i}")
                y = np.maximum(y, 0) if i + 1 < len(strides) else y
            if f"{root}{start}shortcut_conv" in params:
                x = conv(x, f"{start}shortcut_conv", stride)
                x = norm(x, f"{start}shortcut_batchnorm")
            x = np.maximum(x + y, 0)
    return x.mean((1, 2))


_STORAGES = {
    "f4": "Float",
    "f2": "Half",
    "f8": "Double",
    "i8": "Long",
    "u2": "BFloat16",
}


def pickled_text(value):
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def _tuple(numbers):
    return b"(" + b"".join(b"J" + struct.pack("<i", n) for n in numbers) + b"t"


def torch_pickle(weights, extra=b""):
    """The pickle of a state dict, in the opcodes that torch writes.

    Args:
        weights: arrays by name; uint16 stands for bfloat16.
        extra: opcodes of a key and a value more.
    """
    ordered = b"ccollections\nOrderedDict\n)R"
    out = b"\x80\x02" + ordered + b"("
    for key, (name, value) in enumerate(weights.items()):
        strides = [s // value.itemsize for s in value.strides]
        storage = _STORAGES[value.dtype.str[1:]].encode() + b"Storage"
        out += pickled_text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n("
        out += b"(" + pickled_text("storage") + b"ctorch\n" + storage + b"\n"
        out += pickled_text(str(key)) + pickled_text("cpu")
        out += b"J" + struct.pack("<i", value.size)
        out += b"tQK\x00" + _tuple(value.shape) + _tuple(strides)
        out += b"\x89" + ordered + b"tR"
    return out + extra + b"u."


def write_torch_zip(path, weights, extra=b"", byteorder=b"little"):
    """Writes what `torch.save(weights)` writes; returns the path."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", torch_pickle(weights, extra))
        archive.writestr("archive/byteorder", byteorder)
        for key, value in enumerate(weights.values()):
            archive.writestr(f"archive/data/{key}", value.tobytes())
    return path


def write_torch_legacy(path, weights, extra=b"", little_endian=True):
    """Writes what torch wrote before version 1.6; returns the path."""
    heads = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": little_endian})
    content = b"".join(pickle.dumps(head, protocol=2) for head in heads)
    content += torch_pickle(weights, extra)
    content += pickle.dumps([str(key) for key in range(len(weights))], protocol=2)
    for value in weights.values():
        content += struct.pack("<q", value.size) + value.tobytes()
    path.write_bytes(content)
    return path


@gin.register(module="tests")
def tiny_backbone(channels):
    images = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(8, 3, strides=2, name="conv")(images)
    x = keras.layers.BatchNormalization(momentum=0.9, synchronized=True)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D(dtype="float32", name="avgpool")(x)
    return keras.Model(images, {"avgpool": x})


@gin.register(module="tests")
def dropout_backbone(channels):
    images = keras.Input((None, None, channels))
    x = keras.layers.Conv2D(8, 3, strides=2)(images)
    x = keras.layers.BatchNormalization(momentum=0.9, synchronized=True)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dropout(0.2)(x))
