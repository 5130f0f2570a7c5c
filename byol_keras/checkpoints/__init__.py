"""Checkpoints: saving, resuming, and what keeps a run folder to one process."""
