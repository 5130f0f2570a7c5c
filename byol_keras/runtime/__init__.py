"""Ground floor: environment, command line, errors, devices, run folder, files.

The door imports nothing: `environment` runs before TensorFlow is imported.
"""
