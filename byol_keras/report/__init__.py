"""Report of a run: one HTML page that needs no network."""

from byol_keras.report.callback import Report

__all__ = ["Report", "callback", "stored_run"]
