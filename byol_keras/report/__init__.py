"""The report of a run: one page that needs no network; see `callback.Report`."""

from byol_keras.report.callback import Report

__all__ = ["Report"]
