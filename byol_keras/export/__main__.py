"""Exports a network of a run in a format, checks it, and writes a model card.

    python -m byol_keras.export --model_dir=DIR --format=onnx [--network=target] \\
        [--part=projector]

Formats: keras, saved_model, onnx, tflite (LiteRT). The command compares the outputs of
the export with those of the model on random images.
"""

from absl import flags

from byol_keras.export import formats, networks
from byol_keras.export.export_network import export_network
from byol_keras.runtime import cli
from byol_keras.runtime.run_folder import ExportFolder, check_model_dir


def main(_):
    """Parses flags and exports."""
    given = flags.FLAGS
    with cli.user_errors((ValueError, RuntimeError, OSError)):
        check_model_dir(given.model_dir)
        folder = export_network(
            given.model_dir,
            given.format,
            given.network,
            given.part,
            given.size,
            given.licence,
        )
    print(ExportFolder(folder).model_card.read_text().partition("\n## Scores")[0])
    print(f"exported to {folder}")


if __name__ == "__main__":
    flags.DEFINE_string("model_dir", None, "run folder.")
    flags.DEFINE_string("format", "onnx", ", ".join(formats.FORMATS))
    flags.DEFINE_string("network", "online", ", ".join(networks.NETWORKS))
    flags.DEFINE_string("part", "backbone", ", ".join(networks.PARTS))
    flags.DEFINE_integer("size", 224, "pixels of the images.", lower_bound=1)
    flags.DEFINE_string("licence", None, "of the weights, for the model card.")
    cli.rename_arguments(file_format="format")
    cli.run(main)
