"""One labelled file through the shipped pipeline to one row of numbers; rows are kept, so that a run can go on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any, TypeVar

from detectors.fusion import SHIPPED
from detectors.local import LocalStages, analyse_file
from detectors.result import AnalysisResult
from detectors.verdict import versions
from preprocessing.errors import MediaError
from preprocessing.settings import Settings
from train.labelled import Item

Row = dict[str, Any]
Task = TypeVar("Task")


def measure(item: Item, stages: LocalStages, settings: Settings, store: RowStore | None = None) -> Row:
    """The item and what the pipeline says of it. What cannot be analysed is a row with `error`, never an exception.

    The row holds `score` and `verdict`, `detectors` and `logits` by name (the most suspicious face of each), and
    `faces`: each track's fused score, quality and every detector's status, score, logit and frame scores.
    """
    try:
        digest = item.content_digest()
    except OSError as error:
        return failed(item, "missing", f"the file cannot be read: {error.strerror}")
    if item.sha256 and item.sha256 != digest:
        return failed(item, "changed", "its sha256 is not that of the manifest")
    return about(item, digest) | measure_file(item.path, digest, stages, settings, store)


def measure_file(
    path: Path, digest: str, stages: LocalStages, settings: Settings, store: RowStore | None, done_to_it: str = ""
) -> Row:
    """What the pipeline says of a file. `digest` and `done_to_it` (a perturbation, its level, its seed) name the file's
    content in the store."""
    if store is not None and (kept := store.get(digest, done_to_it)) is not None:
        return kept
    try:
        found = numbers(analyse_file(path, stages, settings).result)
    except MediaError as error:
        found = _failure(error.code, error.reason)
    except Exception as error:  # our own fault costs one answer, and is shown
        return _failure("unexpected", f"{type(error).__name__}: {error}".splitlines()[0][:300])
    if store is not None:
        store.put(digest, done_to_it, found)
    return found


def about(item: Item, digest: str) -> Row:
    """What the manifest says of an item."""
    return {
        "path": str(item.path),
        "label": item.label,
        "dataset": item.dataset,
        "method": item.method,
        "identity": item.identity,
        "sha256": digest,
    }


def failed(item: Item, code: str, reason: str) -> Row:
    """The row of an item that could not be analysed."""
    return about(item, item.sha256) | _failure(code, reason)


def _failure(code: str, reason: str) -> Row:
    empty: Row = {"score": None, "verdict": "failed", "detectors": {}, "logits": {}, "faces": []}
    return empty | {"error": code, "reason": reason}


def numbers(result: AnalysisResult) -> Row:
    """A result's numbers without its pictures, boxes and embeddings."""
    return {
        "kind": result.media.kind,
        "score": result.score,
        "interval": result.interval,
        "verdict": result.verdict,
        "reason": next(iter(result.reasons), ""),
        "threshold": result.threshold,
        "incomplete": result.incomplete,
        **detector_scores(result),
        "faces": [_face(face.model_dump(mode="json")) for face in result.faces],
    }


def _face(face: dict[str, Any]) -> Row:
    kept = {key: value for key, value in face.items() if key in ("track", "frames", "fused") or "quality" in key}
    return kept | {
        "detectors": {
            name: {key: found[key] for key in ("status", "reason", "score", "logit")}
            | {"frame_scores": [[one["frame"], round(one["score"], 9)] for one in found["frame_scores"]]}
            for name, found in face["detectors"].items()
        }
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


class RowStore:
    """Rows in a folder, one file each, named by all that they depend on: the file's content, what was done to it, the
    weights and their calibration, the fusion, the settings and the versions of the libraries."""

    def __init__(self, folder: Path, stages: LocalStages, settings: Settings) -> None:
        """Raises OSError where the folder cannot be made."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        chosen = {name: info for name, info in stages.infos().items() if name in (settings.detectors or stages.infos())}
        self._depends = {
            "detectors": {
                name: [info.sha256, info.calibration.model_dump(mode="json") if info.calibration else None]
                for name, info in chosen.items()
            },
            "fusion": hashlib.sha256(SHIPPED.read_bytes()).hexdigest() if SHIPPED.is_file() else None,
            "settings": settings.model_dump(mode="json", exclude={"detectors"}),
            "extractor": stages.extractor,
            "versions": versions(),
        }

    def _file(self, digest: str, done_to_it: str) -> Path:
        named = json.dumps([digest, done_to_it, self._depends], sort_keys=True)
        return self.folder / f"{hashlib.sha256(named.encode()).hexdigest()[:40]}.json"

    def get(self, digest: str, done_to_it: str = "") -> Row | None:
        """The kept row; None where there is none, or a damaged one."""
        try:
            found = json.loads(self._file(digest, done_to_it).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    def put(self, digest: str, done_to_it: str, row: Row) -> None:
        """Keeps a row; a run that is killed leaves whole files only. Raises OSError."""
        file = self._file(digest, done_to_it)
        part = file.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps(row), encoding="utf-8")
        part.replace(file)


def run_all(
    tasks: Sequence[Task], work: Callable[[Task], Row], jobs: int, told: Callable[[int, int, bool], None]
) -> tuple[dict[int, Row], bool]:
    """Rows by the task's place, and whether Ctrl-C ended it early: what was done until then is there.

    `told` hears how many are done, of how many, and whether Ctrl-C was pressed and those under way are awaited. `jobs`
    tasks at once, in threads: the pipeline's decoding runs in processes of its own, its networks release the
    interpreter's lock.
    """
    rows: dict[int, Row] = {}
    if jobs == 1:
        try:
            for place, task in enumerate(tasks):
                told(place, len(tasks), False)
                rows[place] = work(task)
        except KeyboardInterrupt:
            return rows, True
        told(len(tasks), len(tasks), False)
        return rows, False
    pool = ThreadPoolExecutor(jobs, "evaluate")
    futures = {pool.submit(work, task): place for place, task in enumerate(tasks)}
    try:
        for done, future in enumerate(as_completed(futures), 1):
            rows[futures[future]] = future.result()
            told(done, len(tasks), False)
        return rows, False
    except KeyboardInterrupt:
        told(len(rows), len(tasks), True)
        pool.shutdown(wait=True, cancel_futures=True)
        return {place: one.result() for one, place in futures.items() if one.done() and not one.cancelled()}, True
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
