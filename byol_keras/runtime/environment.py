"""Environment variables, which TensorFlow and Keras read when they are imported."""

import os
import pathlib
import sys
import warnings

# CPUs without AVX512 run convolutions several times slower without oneDNN. Log level 2
# hides the lines on missing GPUs that TensorFlow prints at every start.
DEFAULTS = {
    "TF_ENABLE_ONEDNN_OPTS": "1",
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


def uses_onednn_itself(cpu_info: str) -> bool:
    """Whether TensorFlow enables oneDNN on a CPU by default.

    Args:
        cpu_info: str. Content of `/proc/cpuinfo` on Linux.
    """
    return "avx512_vnni" in cpu_info


def _warn_if_too_late():
    cpu = pathlib.Path("/proc/cpuinfo")
    if (
        "tensorflow" in sys.modules
        and "TF_ENABLE_ONEDNN_OPTS" not in os.environ
        and cpu.exists()
        and not uses_onednn_itself(cpu.read_text())
    ):
        warnings.warn(
            "TensorFlow was imported before byol_keras, so oneDNN is off, which makes "
            "convolutions on this CPU several times slower. Import byol_keras first, "
            "or set TF_ENABLE_ONEDNN_OPTS=1.",
            stacklevel=4,
        )


_warn_if_too_late()
for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
