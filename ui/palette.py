"""Colours, dashes and forms of detectors, the same in every figure, report and front-end."""

from __future__ import annotations

from collections.abc import Iterable

from detectors.result import AnalysisResult

PALETTE = ("#5b6ee1", "#cf7423", "#1f9bb0", "#c2559d", "#8a9a2b", "#8c6bd8", "#b5533c", "#4f8f5b")
"""At least 3 to 1 on white and on near-black (WCAG 1.4.11), so of much the same lightness: where lines cross, forms and
dashes tell them apart too. None of them is a verdict's colour."""
DASHES = {"solid": "none", "dash": "7 4", "dot": "2 3", "dashdot": "8 3 2 3", "longdash": "14 4"}
"""Plotly's names, and the same for SVG."""
SYMBOLS = {
    "circle": "M4 0A4 4 0 1 1-4 0A4 4 0 1 1 4 0Z",
    "square": "M-3.6-3.6H3.6V3.6H-3.6Z",
    "diamond": "M0-5L5 0L0 5L-5 0Z",
    "triangle-up": "M0-5L4.8 3.6H-4.8Z",
    "x": "M-4-2.4L-2.4-4L0-1.6L2.4-4L4-2.4L1.6 0L4 2.4L2.4 4L0 1.6L-2.4 4L-4 2.4L-1.6 0Z",
    "star": "M0-5.4L1.4-1.9L5.1-1.7L2.3.7L3.2 4.4L0 2.4L-3.2 4.4L-2.3.7L-5.1-1.7L-1.4-1.9Z",
    "triangle-down": "M0 5L-4.8-3.6H4.8Z",
}
"""Of points, as the path of an SVG around (0, 0), in pixels."""


def colours(names: Iterable[str]) -> dict[str, str]:
    """A colour for each detector, the same in every figure of a result."""
    return {name: PALETTE[index % len(PALETTE)] for index, name in enumerate(sorted(names))}


def forms(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """A symbol and a dash for each detector: 35 pairs, so that lines are told apart without their colours."""
    symbols, dashes = list(SYMBOLS), list(DASHES)
    return {n: (symbols[i % len(symbols)], dashes[i % len(dashes)]) for i, n in enumerate(sorted(names))}


def detector_names(result: AnalysisResult) -> list[str]:
    """Every detector that the result speaks of."""
    return sorted({name for face in result.faces for name in face.detectors})
