"""Monitoring of a run: representation, collapse, non-finite steps, logs, speed."""

__all__ = [
    "collapse",
    "logs",
    "nonfinite",
    "replay",
    "representation",
    "throughput",
]
