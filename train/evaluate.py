"""`unmask evaluate`: the shipped pipeline on labelled media, with intervals; what it prints is what the cards quote."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detectors.fusion import fitted_overlap
from detectors.local import LocalStages
from detectors.pipeline import choose
from preprocessing.inputs import FaceInput
from preprocessing.settings import Settings
from train.delong import compare
from train.labelled import Item, read_items
from train.levels import FUSED, LEVELS, Level, cluster, level_figures
from train.measure import Row, RowStore, detector_scores, measure, run_all
from train.metrics import proportion
from train.robustness import grid, measure_perturbed, steps_of

__all__ = ["Item", "Told", "detector_scores", "evaluate", "read_items", "report", "to_json"]

Told = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done and how much there is."""
DECIDED = ("real", "fake")


def evaluate(
    items: Sequence[Item],
    stages: LocalStages,
    settings: Settings | None = None,
    told: Told = lambda what, done, total: None,
    *,
    levels: Sequence[Level] = LEVELS,
    perturb: Sequence[str] = (),
    jobs: int = 1,
    save: Path | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Analyse every file as `unmask scan` does and summarise; the form is DESIGN's evaluation JSON, and more keys.

    `perturb`: suites of preprocessing.perturb, or "all". `jobs`: files at once. `save`: a folder that keeps each file's
    numbers, so that a run that is repeated goes on. Ctrl-C ends the analysis and summarises what there is: `partial`.
    A file without a score (no face, not readable) counts in `coverage` and `outcomes` and enters no other figure.

    Raises PerturbationError for an unknown suite and OSError where `save` cannot be written.
    """
    # Heatmaps change no score and cost as much as the scores do.
    settings = (settings or Settings()).model_copy(update={"heatmaps": 0})
    infos = choose(stages.infos(), settings.detectors)
    suites = steps_of(perturb)
    store = RowStore(save, stages, settings) if save else None
    steps = list(dict.fromkeys(step for chosen in suites.values() for step in chosen))
    count = len(items) * (1 + len(steps))

    def seen(done: int, _: int, stopping: bool) -> None:
        told("stopping" if stopping else "clean", done, count)

    found, stopped = run_all(items, lambda item: measure(item, stages, settings, store), jobs, seen)
    rows = [found[place] for place in sorted(found)]
    perturbed: dict[Any, list[Row]] = {}
    for number, step in enumerate(steps, 1):
        if stopped:
            break

        def seen_step(done: int, _: int, stopping: bool, step: Any = step, before: int = number * len(items)) -> None:
            told("stopping" if stopping else f"{step.name}-{step.level}", before + done, count)

        def work(pair: tuple[Item, Row], step: Any = step) -> Row:
            return measure_perturbed(*pair, step, stages, settings, store, seed)

        done, stopped = run_all(list(zip(items, rows, strict=True)), work, jobs, seen_step)
        perturbed[step] = [done[place] for place in sorted(done)]
    units = {name: "frame" if isinstance(info.input, FaceInput) else "clip" for name, info in infos.items()}
    told("figures", count, count)
    summarised = report(rows, units, levels)
    if suites:
        summarised["robustness"] = grid(suites, perturbed, rows, sorted(units), summarised["threshold"])
        summarised["perturbed_scores"] = {f"{step.name}-{step.level}": done for step, done in perturbed.items()}
    detectors = {
        name: {
            "weights": info.label,
            "unit": units[name],
            "calibrated_on": info.calibration.fitted_on if info.calibration else None,
        }
        for name, info in sorted(infos.items())
    }
    begin = {
        "items": len(rows),
        "planned": len(items),
        "partial": stopped,
        "fitted_on_these": len(fitted_overlap([row["sha256"] for row in rows if row["sha256"]])),
        "detectors": detectors,
        "seed": seed,
    }
    return begin | summarised


def report(
    rows: Sequence[Row], units: Mapping[str, str] | None = None, levels: Sequence[Level] = LEVELS
) -> dict[str, Any]:
    """Everything that rows say. `units`: each detector's, see train.levels; without it, the detectors of the rows.

    `overall`, `by_dataset`, `by_method`, `by_detector` and the matrices are of videos; `levels` has them of each level.
    """
    units = units or dict.fromkeys(sorted({name for row in rows for name in row["detectors"]}), "frame")
    threshold = next((row["threshold"] for row in rows if "threshold" in row), 0.5)
    wanted: list[Level] = list(dict.fromkeys((*levels, "video")))
    by_level = {level: level_figures(rows, level, units, threshold) for level in LEVELS if level in wanted}
    scored = sum(row["score"] is not None for row in rows)
    return {
        "items": len(rows),
        "coverage": proportion(scored, len(rows)).as_dict(),
        "outcomes": outcomes(rows),
        "detector_coverage": {name: _answers(rows, name) for name in sorted(units)},
        "verdicts": _verdicts(rows),
        "threshold": threshold,
        **by_level["video"],
        "paired": {name: _paired(rows, name) for name in sorted(units)},
        "levels": {level: found for level, found in by_level.items() if level in levels},
        "scores": list(rows),
    }


def outcomes(rows: Iterable[Row]) -> list[dict[str, Any]]:
    """The files that got no verdict real or fake, counted by outcome and reason, with their paths; most first."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["verdict"] not in DECIDED:
            # Scores in a reason would make every file a reason of its own.
            found[row["verdict"], re.sub(r"\d+\.\d+", "…", row.get("reason", ""))].append(row)
    return [
        {
            "outcome": outcome,
            "reason": reason,
            "count": len(group),
            "real": sum(not row["label"] for row in group),
            "fake": sum(bool(row["label"]) for row in group),
            "paths": [row["path"] for row in group],
        }
        for (outcome, reason), group in sorted(found.items(), key=lambda entry: -len(entry[1]))
    ]


def _answers(rows: Iterable[Row], name: str) -> dict[str, int]:
    """How many files a detector scored ("scored"), and why it did not score the others."""
    count: Counter[str] = Counter()
    for row in rows:
        said = [face["detectors"][name] for face in row.get("faces", []) if name in face["detectors"]]
        if name in row["detectors"]:
            count["scored"] += 1
        elif said:
            count[re.sub(r"\d+", "…", said[0]["reason"]) or said[0]["status"]] += 1
        else:
            count["no face" if row["verdict"] == "no_face" else row["verdict"]] += 1
    return dict(count.most_common())


def _paired(rows: Iterable[Row], name: str) -> dict[str, Any] | None:
    """A detector's AUC minus the fused score's on the files that have both; None where those are of one class."""
    both = [row for row in rows if row["score"] is not None and name in row["detectors"]]
    labels = [row["label"] for row in both]
    if set(labels) != {0, 1}:
        return None
    scores = [row["detectors"][name] for row in both]
    found = compare(labels, scores, [row["score"] for row in both], [cluster(row) for row in both])
    values = {
        "detector": found.first,
        FUSED: found.second,
        "difference": found.difference,
        "low": found.low,
        "high": found.high,
        "p": found.p,
    }
    return {key: None if value is None else round(value, 6) for key, value in values.items()} | {"n": found.n}


def _verdicts(rows: Iterable[Row]) -> dict[str, dict[str, int]]:
    table: dict[str, dict[str, int]] = {"real": defaultdict(int), "fake": defaultdict(int)}
    for row in rows:
        table["fake" if row["label"] else "real"][row["verdict"]] += 1
    return {label: dict(sorted(counts.items())) for label, counts in table.items()}


def to_json(found: Mapping[str, Any]) -> str:
    """The report as JSON, one line a file in `scores` and `perturbed_scores`."""
    plain = {key: value for key, value in found.items() if key not in ("scores", "perturbed_scores")}
    rest = json.dumps(plain, indent=1, ensure_ascii=False)
    steps = [f"{json.dumps(step)}: {_lines(rows)}" for step, rows in found.get("perturbed_scores", {}).items()]
    perturbed = ' "perturbed_scores": {\n ' + ",\n ".join(steps) + "\n },\n" if steps else ""
    return f'{rest[:-2]},\n{perturbed} "scores": {_lines(found["scores"])}\n}}\n'


def _lines(rows: Sequence[Row]) -> str:
    lines = ",\n  ".join(json.dumps(row, ensure_ascii=False) for row in rows)
    return f"[\n  {lines}\n ]"
