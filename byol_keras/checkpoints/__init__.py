"""Checkpoints: saving, resuming, run lock, shutdown on signals."""

__all__ = ["callback", "files", "fingerprint", "run_lock", "signals", "variables"]
