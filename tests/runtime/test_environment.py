"""What is set before TensorFlow is imported, and the warning if that is too late."""

import subprocess
import sys

import pytest

from byol_keras.runtime import environment


def run_environment(*lines):
    """Standard output and error of a new process that runs the module after `lines`."""
    script = [
        "import os, pathlib, runpy, sys, types",
        "for name in list(os.environ):",
        "    if name.startswith(('TF_', 'KERAS_')): del os.environ[name]",
        *lines,
        f"runpy.run_path({environment.__file__!r})",
        "print(os.environ['TF_ENABLE_ONEDNN_OPTS'], os.environ['KERAS_BACKEND'])",
    ]
    return subprocess.run(
        [sys.executable, "-c", "\n".join(script)],
        capture_output=True,
        text=True,
        check=True,
    )


def test_onednn_and_the_backend_are_set():
    assert run_environment().stdout == "1 tensorflow\n"


def test_values_of_the_user_stay():
    line = "os.environ.update(TF_ENABLE_ONEDNN_OPTS='0', KERAS_BACKEND='jax')"
    assert run_environment(line).stdout == "0 jax\n"


def test_cpus_with_onednn_by_default_are_known():
    assert environment.uses_onednn_itself("flags : avx2 avx512_vnni")
    assert not environment.uses_onednn_itself("flags : avx2")


@pytest.mark.parametrize(
    ("flag", "onednn", "warns"),
    [("avx2", None, True), ("avx2", "0", False), ("avx512_vnni", None, False)],
)
def test_importing_tensorflow_first_warns_only_if_it_costs_speed(flag, onednn, warns):
    done = run_environment(
        f"os.environ['TF_ENABLE_ONEDNN_OPTS'] = {onednn!r}" if onednn else "",
        "sys.modules['tensorflow'] = types.ModuleType('tensorflow')",
        "pathlib.Path.exists = lambda self: True",
        f"pathlib.Path.read_text = lambda self: 'flags : {flag}'",
    )
    assert ("Import byol_keras first" in done.stderr) == warns
