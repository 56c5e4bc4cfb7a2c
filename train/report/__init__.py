"""An evaluation as one HTML file that needs no other: curves, tables, the robustness grid and the worst mistakes."""

from train.report.page import render

__all__ = ["render"]
