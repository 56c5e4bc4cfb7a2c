"""The HTML page of an evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from train.levels import FUSED, LEVELS, cut, examples
from train.metrics import FIGURES
from train.report import curves
from train.report.pictures import Picture

HERE = Path(__file__).parent
WORDS = {
    "auc": ("AUC", "chance that a fake scores above a real"),
    "ap": ("AP", "average precision of the class fake; depends on the share of fakes"),
    "eer": ("EER", "equal error rate; lower is better"),
    "accuracy": ("accuracy", "at the threshold"),
    "f1": ("F1", "of the class fake at the threshold"),
    "tpr_at_1fpr": ("TPR @ 1 %", "share of fakes found where 1 % of reals are called fake"),
    "tpr_at_5fpr": ("TPR @ 5 %", "share of fakes found where 5 % of reals are called fake"),
    "fpr_at_threshold": ("FPR", "share of reals called fake at the threshold; lower is better"),
    "ece": ("ECE", "expected calibration error; lower is better"),
    "brier": ("Brier", "mean squared error of the score; lower is better"),
}
"""Each figure's short name and what it is."""
OUTCOMES = {"no_face": "no face found", "inconclusive": "inconclusive", "failed": "could not be analysed"}


def render(found: Mapping[str, Any], pictures: Sequence[Picture] = (), title: str = "") -> str:
    """The evaluation `found` (train.evaluate) as a page that needs no other file.

    All text from files, manifests and cards is escaped.
    """
    names = [FUSED, *found["by_detector"]]
    rows, threshold = found["scores"], found["threshold"]
    scored = {name: examples(rows, "video", name) for name in names}
    charts = curves.ranking_charts(scored)
    charts["Risk and coverage"] = curves.risk_coverage(scored, rows)
    environment = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"three": _three, "span": _span, "shade": _shade, "signed": _signed}
    page = environment.get_template("page.html")
    return page.render(
        found=found,
        title=title or "Evaluation",
        style=(HERE / "page.css").read_text(encoding="utf-8"),
        names=names,
        css={name: curves.css_of(name, names) for name in names},
        charts=charts,
        calibration={
            name: (curves.reliability(one, name), curves.histogram(one, name, cut(name, threshold)))
            for name, one in scored.items()
            if len(one)
        },
        figures={name: WORDS[name] for name in FIGURES},
        tables=_tables(found),
        matrices=_matrices(found, names),
        robustness=found.get("robustness", {}),
        outcome_words=OUTCOMES,
        pictures=pictures,
        counts={label: sum(row["label"] == label for row in rows) for label in (0, 1)},
        decided=_decided(found["verdicts"]),
    )


def _tables(found: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(heading, rows by name) of the tables with every figure; the video level's first."""
    tables = [("Videos and pictures", {FUSED: found["overall"], **found["by_detector"]})]
    for level in LEVELS[::-1]:
        if level != "video" and level in found["levels"]:
            one = found["levels"][level]
            fused = {FUSED: one["overall"]} if one["overall"] else {}
            tables.append((f"Each {level} by itself", {**fused, **one["by_detector"]}))
    by = {"by_dataset": "Fused score by data set", "by_method": "Fused score by manipulation"}
    for key, heading in by.items():
        if found[key]:
            against_all = found["reals"].get(key, {})
            marked = {f"{n} *" if against_all.get(n) == "all" else n: figures for n, figures in found[key].items()}
            tables.append((heading, marked))
    return [(heading, rows) for heading, rows in tables if rows]


def _matrices(found: Mapping[str, Any], names: Sequence[str]) -> list[tuple[str, list[str], dict[str, Any]]]:
    """(heading, columns, {detector: {column: estimate of the AUC}}) of the two matrices, those that have columns."""
    made = []
    for key, heading in (("cross_dataset", "AUC by data set"), ("cross_method", "AUC by manipulation")):
        cells = {name: {c: found[key][name][c]["auc"] for c in found[key][name]} for name in names}
        columns = sorted({c for row in cells.values() for c, area in row.items() if area["value"] is not None})
        if columns:
            made.append((heading, columns, cells))
    return made


def _decided(verdicts: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    right = verdicts["real"].get("real", 0) + verdicts["fake"].get("fake", 0)
    wrong = verdicts["real"].get("fake", 0) + verdicts["fake"].get("real", 0)
    return {"right": right, "wrong": wrong}


def _three(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _span(one: Mapping[str, Any]) -> str:
    return "no interval" if one["low"] is None else f"{one['low']:.2f} to {one['high']:.2f}"


def _signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"


def _shade(value: float | None) -> str:
    """A background from red (AUC 0.5 or less) to green (1), as a custom property of the style sheet."""
    return "" if value is None else f"--good:{round(min(max((value - 0.5) * 2, 0), 1) * 100)}%"
