"""`unmask evaluate`: the shipped pipeline on labelled media, with intervals; what it prints is what the cards quote."""

from __future__ import annotations

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detectors.local import LocalStages, analyse_file
from detectors.result import AnalysisResult
from preprocessing.errors import MediaError
from preprocessing.settings import Settings
from train.metrics import proportion, summary

MEDIA_SUFFIXES = {
    ".jpg",
    ".jpeg",
    ".png",
    ".webp",
    ".heic",
    ".mp4",
    ".mov",
    ".avi",
    ".mkv",
    ".webm",
    ".mpg",
    ".mpeg",
    ".m4v",
}
LABELS = {"real": 0, "fake": 1, "0": 0, "1": 1}


@dataclass(frozen=True)
class Item:
    """One labelled file: `label` 0 real, 1 fake."""

    path: Path
    label: int
    dataset: str = ""
    method: str = ""
    split: str = ""
    sha256: str = ""

    def digest(self) -> str:
        """sha256 of the file, from the manifest or computed."""
        return self.sha256 or hashlib.sha256(self.path.read_bytes()).hexdigest()


def read_items(
    data: Path,
    *,
    split: str | None = None,
    sha_prefix: str | None = None,
    kind: str | None = None,
    without: Collection[str] = (),
) -> list[Item]:
    """The labelled files of a manifest, or of a folder that has one or folders called real/ and fake/.

    `split` and `kind` (image, video) keep rows with that value; `sha_prefix` keeps files whose sha256 begins with one
    of its digits; `without` leaves data sets out. Raises ValueError that names the file, the line and what is wrong.
    """
    manifest = (
        data
        if data.is_file()
        else next((data / n for n in ("MANIFEST.csv", "manifest.csv") if (data / n).is_file()), None)
    )
    items = _from_manifest(manifest, split, kind) if manifest else _from_folders(data)
    items = [item for item in items if item.dataset not in without]
    if sha_prefix:
        items = [item for item in items if item.digest()[0] in sha_prefix]
    if not items:
        raise ValueError(
            f"{data}: no labelled media found; give a MANIFEST.csv (path,label) or folders real/ and fake/"
        )
    return items


def _from_manifest(manifest: Path, split: str | None, kind: str | None) -> list[Item]:
    items = []
    with manifest.open(newline="", encoding="utf-8") as file:
        rows = csv.DictReader(file)
        if not {"path", "label"} <= set(rows.fieldnames or ()):
            raise ValueError(
                f"{manifest}: needs the columns path and label, has {', '.join(rows.fieldnames or ['none'])}"
            )
        for number, row in enumerate(rows, start=2):
            if split and row.get("split") != split:
                continue
            if kind and row.get("kind", kind) != kind:
                continue
            if row["label"] not in LABELS:
                raise ValueError(f"{manifest}, line {number}: label {row['label']!r} is not real, fake, 0 or 1")
            fields = {key: row.get(key) or "" for key in ("dataset", "method", "split", "sha256")}
            items.append(Item(manifest.parent / row["path"], LABELS[row["label"]], **fields))
    return items


def _from_folders(data: Path) -> list[Item]:
    return [
        Item(path, label, dataset=data.name)
        for name, label in (("real", 0), ("fake", 1))
        for path in sorted((data / name).rglob("*"))
        if path.suffix.lower() in MEDIA_SUFFIXES
    ]


def evaluate(
    items: Sequence[Item],
    stages: LocalStages,
    settings: Settings | None = None,
    progress: Callable[[int, Item], None] = lambda done, item: None,
) -> dict[str, Any]:
    """Analyse every file as `unmask scan` does and summarise; the form is DESIGN's evaluation JSON.

    A file without a score (no face, not readable) counts against `coverage` and enters no other figure.
    """
    rows = []
    for done, item in enumerate(items):
        progress(done, item)
        rows.append(_analyse(item, stages, settings))
    return {"items": len(rows), **report(rows)}


def _analyse(item: Item, stages: LocalStages, settings: Settings | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "path": str(item.path),
        "label": item.label,
        "dataset": item.dataset,
        "method": item.method,
        "sha256": item.digest() if item.path.is_file() else "",
        "score": None,
        "verdict": "failed",
        "detectors": {},
        "logits": {},
    }
    try:
        result = analyse_file(item.path, stages, settings).result
    except MediaError as error:
        return {**row, "error": str(error)}
    return {
        **row,
        "score": result.score,
        "verdict": result.verdict,
        "threshold": result.threshold,
        **detector_scores(result),
    }


def detector_scores(result: AnalysisResult) -> dict[str, dict[str, float]]:
    """Each detector's score and raw logit for the face on which it is highest: the most suspicious face decides."""
    scores: dict[str, float] = {}
    logits: dict[str, float] = {}
    for face in result.faces:
        for name, found in face.detectors.items():
            if (
                found.status == "ok"
                and found.score is not None
                and found.logit is not None
                and found.score >= scores.get(name, -1)
            ):
                scores[name], logits[name] = found.score, found.logit
    return {"detectors": scores, "logits": logits}


def report(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Figures over all rows, by data set, by method of manipulation and by detector."""
    threshold = next((row["threshold"] for row in rows if "threshold" in row), 0.5)
    scored = [row for row in rows if row["score"] is not None]
    names = sorted({name for row in rows for name in row["detectors"]})
    return {
        "coverage": proportion(len(scored), len(rows)).as_dict(),
        "verdicts": _verdicts(rows),
        "threshold": threshold,
        "overall": _figures(scored, threshold),
        "by_dataset": _grouped(scored, "dataset", threshold),
        "by_method": _grouped(scored, "method", threshold),
        "by_detector": {
            name: _figures([{**r, "score": r["detectors"][name]} for r in rows if name in r["detectors"]], threshold)
            for name in names
        },
        "scores": list(rows),
    }


def _figures(rows: Sequence[dict[str, Any]], threshold: float) -> dict[str, Any]:
    figures = summary([row["label"] for row in rows], [row["score"] for row in rows], threshold)
    return {name: estimate.as_dict() for name, estimate in figures.items()}


def _grouped(rows: Iterable[dict[str, Any]], key: str, threshold: float) -> dict[str, Any]:
    groups = defaultdict(list)
    for row in rows:
        if row[key]:
            groups[row[key]].append(row)
    return {name: _figures(group, threshold) for name, group in sorted(groups.items())}


def _verdicts(rows: Iterable[dict[str, Any]]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {"real": defaultdict(int), "fake": defaultdict(int)}
    for row in rows:
        table["fake" if row["label"] else "real"][row["verdict"]] += 1
    return {label: dict(sorted(counts.items())) for label, counts in table.items()}


def write(found: dict[str, Any], out: Path) -> None:
    """The report as JSON."""
    out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
