"""Ground floor: environment, command line, errors, devices, run folder, files.

This file imports nothing, since `environment` must run before TensorFlow is imported.
"""

__all__ = [
    "argument_checks",
    "atomic_files",
    "cli",
    "console",
    "deferred_import",
    "devices",
    "environment",
    "errors",
    "host_calls",
    "printable",
    "progress",
    "regular_files",
    "run_folder",
    "workers",
]
