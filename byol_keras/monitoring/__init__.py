"""Monitoring of a run: representation, shortcuts, non-finite steps, logs, speed."""

__all__ = [
    "causes",
    "collapse",
    "logs",
    "nonfinite",
    "plain_images",
    "replay",
    "representation",
    "shortcut_verdict",
    "shortcuts",
    "throughput",
]
