"""`unmask detectors` and `unmask weights list|verify`: what there is, where it comes from, how good it was measured."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, get_args

from rich.console import Console
from rich.table import Table
from rich.text import Text

from detectors.base import Profile
from detectors.registry import create, entry, names
from detectors.store import WeightCard, WeightsError, available, located, verify
from preprocessing.inputs import ClipInput, FaceInput, InputSpec, LandmarkInput


def input_words(spec: InputSpec) -> str:
    """ "face 128 px, margin 1.3", "25 faces of 160 px, every frame" or "30 frames of landmarks"."""
    if isinstance(spec, LandmarkInput):
        return f"{spec.length} frames of 68 landmarks"
    face = spec.face if isinstance(spec, ClipInput) else spec
    square = f"{face.size} px, margin {face.margin:g}{', eyes level' if face.align == 'eyes' else ''}"
    if isinstance(spec, FaceInput):
        return f"face of {square}"
    spacing = "every frame" if spec.stride == 1 else f"every {spec.stride}. frame"
    return f"{spec.length} faces of {square}, {spacing}"


def detector_rows() -> list[dict[str, Any]]:
    """One row for each detector and profile; `weights` is the card in use, None where there are no trained weights."""
    import torch

    rows = []
    for profile in get_args(Profile):
        cards = available(profile)
        for name in names():
            meta = entry(name).cls.meta
            card = cards.get(name)
            # What is listed is what is used: weights bring their own config.
            config = type(entry(name).profiles[profile]).model_validate(card.config) if card else None
            with torch.device("meta"):  # its size without its memory: the largest has 300 million parameters
                detector = create(name, profile, config)
            rows.append(
                {
                    "name": name,
                    "profile": profile,
                    "method": meta.title,
                    "paper": meta.paper,
                    "year": meta.year,
                    "url": meta.url,
                    "looks_at": meta.looks_at,
                    "licence": meta.licence,
                    "input": input_words(detector.input),
                    "parameters": sum(p.numel() for p in detector.parameters()),
                    "weights": card.model_dump(mode="json") if card else None,
                }
            )
    return sorted(rows, key=lambda row: (row["name"], row["profile"]))


def metric_words(card: WeightCard) -> str:
    """ "AUC 0.81 (0.72 to 0.88), n 96, development" for the card's first figures, one a line."""
    lines = []
    for metric in card.metrics[:3]:
        interval = (
            f" ({metric.low:.3g} to {metric.high:.3g})" if metric.low is not None and metric.high is not None else ""
        )
        lines.append(f"{metric.metric} {metric.value:.3g}{interval}, n {metric.n}, {metric.set}")
    return "\n".join(lines) or "not measured"


def print_detectors(as_json: bool) -> None:
    """What each detector takes and how good it was measured, then which paper it is of and under which terms."""
    rows = detector_rows()
    if as_json:
        print(json.dumps(rows, indent=1))
        return
    table = _table("Detector", "Profile", "Method", "Input", "Parameters", "Weights", "Measured")
    for row in rows:
        card = WeightCard.model_validate(row["weights"]) if row["weights"] else None
        table.add_row(
            row["name"],
            row["profile"],
            Text(f"{row['method']} ({row['year']})"),
            row["input"],
            f"{row['parameters']:,}",
            card.name if card else Text("none: takes no part", "yellow"),
            Text(metric_words(card)) if card else "–",
        )
    sources = _table("Detector", "Paper", "Year", "Licence notes")
    for row in rows:
        if row["profile"] == "compact":
            sources.add_row(row["name"], Text(row["paper"]), str(row["year"]), Text(row["licence"]))
    console = _console()
    console.print(table)
    console.print(sources)


def print_weights(as_json: bool) -> None:
    found = located()
    if as_json:
        print(json.dumps([{**f.card.model_dump(mode="json"), "path": str(f.path)} for f in found], indent=1))
        return
    table = _table("Name", "Detector", "Profile", "Size", "sha256", "Licence", "Folder")
    for one in found:
        card = one.card
        table.add_row(
            card.name,
            card.detector,
            card.profile,
            f"{card.bytes / 1024**2:.1f} MiB",
            card.sha256[:12],
            Text(card.licence),
            Text(str(one.folder) if one.path.is_file() else f"{one.folder} (not there)"),
        )
    _console().print(table if found else "No trained weights yet: import or train some.")


def verify_weights() -> bool:
    """Print one line for each weights file; True where all are good."""
    good = True
    for one in located():
        try:
            verify(one)
            print(f"good  {one.card.name}  {one.card.sha256[:12]}  {one.path}")
        except WeightsError as error:
            good = False
            print(f"BAD   {one.card.name}  {error}")
    return good


def _console() -> Console:
    """As wide as the terminal or as COLUMNS says; where there is neither, wide enough to read."""
    known = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(highlight=False, width=None if known else 120)


def _table(*columns: str) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold", justify="right" if column in ("Parameters", "Size") else "left")
    return table
