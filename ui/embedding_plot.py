"""Where a face's embedding lies among reference portraits and pseudo-fakes of them."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import plotly.graph_objects as go

from detectors.gallery import REAL, Gallery, Placed, gallery_for
from detectors.result import FaceResult
from ui.palette import PALETTE
from ui.plots import INK, styled
from ui.words import NEAREST, REFERENCES, THIS_FACE, VERDICTS

AWAY_PX = 26
"""Of a neighbour's number from its point."""
SYMBOLS = (
    "x-thin-open", "cross-thin-open", "triangle-up-open", "square-open", "diamond-open", "y-up-open",
    "triangle-down-open", "asterisk-open", "hexagon-open",
)  # fmt: skip
"""Of the kinds of fakes, so that they are told apart without colours."""


def placed_faces(face: FaceResult) -> dict[str, tuple[Gallery, Placed]]:
    """By detector: its gallery and the face's place on it, for those that have one for the very weights used."""
    found = {}
    for name, score in face.detectors.items():
        gallery = gallery_for(name, score.weights) if score.embedding else None
        if gallery is not None and score.embedding is not None:
            found[name] = gallery, gallery.place(score.embedding)
    return found


def embedding_figure(gallery: Gallery, placed: Placed) -> go.Figure:
    """The map: references by kind, the face as a star, lines to its nearest references, which have their number."""
    figure = go.Figure()
    kinds = np.array(gallery.kinds)
    for number, (one, angle) in enumerate(zip(placed.neighbours, _fanned(gallery, placed), strict=True), 1):
        x, y = gallery.points[one.index, :2]
        figure.add_annotation(
            x=float(x), y=float(y), text=str(number), ax=AWAY_PX * math.cos(angle), ay=-AWAY_PX * math.sin(angle),
            arrowhead=0, arrowwidth=0.8, arrowcolor=INK, font={"size": 12}, borderpad=0,
        )  # fmt: skip
        figure.add_trace(
            go.Scatter(x=[placed.x, float(x)], y=[placed.y, float(y)], mode="lines", hoverinfo="skip",
                       line={"color": INK, "width": 1, "dash": "dot"}, showlegend=False)
        )  # fmt: skip
    shown = [REAL, *sorted(set(gallery.kinds) - {REAL})]
    for number, kind in enumerate(shown):
        here = gallery.points[kinds == kind]
        real = kind == REAL
        words = REFERENCES.get(kind, kind)
        marker = {
            "size": 8 if real else 7,
            "symbol": "circle" if real else SYMBOLS[(number - 1) % len(SYMBOLS)],
            "color": VERDICTS["real"].colour if real else PALETTE[number % len(PALETTE)],
            "line": {"width": 0 if real else 1.6},
            "opacity": 0.85,
        }
        figure.add_trace(
            go.Scatter(x=here[:, 0], y=here[:, 1], mode="markers", name=words, marker=marker, hovertext=words,
                       hoverinfo="text")
        )  # fmt: skip
    star = {"size": 17, "symbol": "star", "color": VERDICTS["inconclusive"].colour, "line": {"width": 1, "color": INK}}
    figure.add_trace(
        go.Scatter(x=[placed.x], y=[placed.y], mode="markers", name=THIS_FACE, marker=star,
                   hovertext=THIS_FACE, hoverinfo="text")
    )  # fmt: skip
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(showticklabels=False)
    legend = {
        "orientation": "h", "x": 0, "y": -0.03, "yanchor": "top", "itemwidth": 30, "font": {"size": 12},
        "maxheight": 0.6,
    }  # fmt: skip
    figure.update_layout(legend=legend, showlegend=True)
    return styled(figure, 520)  # on a phone the legend takes half of it


def _fanned(gallery: Gallery, placed: Placed) -> list[float]:
    """An angle for each neighbour's number: as they lie around the face, spread evenly, for they often lie as one."""
    points = gallery.points[[one.index for one in placed.neighbours], :2].astype(float)
    reach = np.ptp(gallery.points[:, :2], axis=0) + 1e-9
    off = (points - (placed.x, placed.y)) / reach
    order = np.argsort(np.arctan2(off[:, 1], off[:, 0]))
    angles = np.empty(len(order))
    angles[order] = math.pi / 2 + 2 * math.pi * np.arange(len(order)) / max(len(order), 1)
    return angles.tolist()


def neighbour_words(placed: Placed) -> str:
    """The nearest references with their distances, in one sentence."""
    counted = Counter(REFERENCES.get(one.kind, one.kind) for one in placed.neighbours)
    kinds = ", ".join(f"{count} × {kind}" for kind, count in counted.most_common())
    return NEAREST.format(kinds=kinds, distance=placed.neighbours[0].distance)
