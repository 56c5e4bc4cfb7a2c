"""`unmask scan --verify`: a report's files analysed again, and what is otherwise now."""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from detectors.result import AnalysisResult
from preprocessing.errors import MediaError, MediaMissing
from preprocessing.settings import Settings
from ui.errors import UsageError
from ui.report import SCHEMA

if TYPE_CHECKING:
    from detectors.local import LocalStages

TOLERANCE = 1e-4
"""Between two runs of the same weights on the same media."""
ATTACHMENT = "unmask-report.json"
"""The name of the JSON inside a PDF."""


def read_report(path: Path) -> dict[str, Any]:
    """What a report in any of its forms says it found. Raises UsageError where it is none."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UsageError(f"--verify {path}: {error.strerror}") from None
    try:
        found = json.loads(_attached(content) if content.startswith(b"%PDF") else _inside(content.decode("utf-8")))
    except (ValueError, KeyError):
        found = None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        told = found.get("schema") if isinstance(found, dict) else None
        what = f"a report of another version ({told})" if str(told).startswith("unmask.report/") else "no report"
        raise UsageError(f"--verify {path}: {what}", "give a file that this version's `unmask scan --report` wrote")
    return found


def _inside(text: str) -> str:
    found = re.search(r'<script type="application/json" id="unmask-report">(.*?)</script>', text, re.DOTALL)
    return found.group(1) if found else text


def _attached(content: bytes) -> bytes:
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        return PdfReader(io.BytesIO(content)).attachments[ATTACHMENT][0]
    except PyPdfError as error:
        raise ValueError(str(error)) from None


def differences(before: dict[str, Any], now: AnalysisResult) -> list[str]:
    """What a second analysis finds otherwise, in plain sentences; none where it reproduces."""
    then = AnalysisResult.model_validate(before)
    if then.media.sha256 != now.media.sha256:
        return ["the media is another file (its sha256 differs)"]
    told = []
    if then.verdict != now.verdict:
        told.append(f"the verdict was {then.verdict} and is {now.verdict}")
    if not _same(then.score, now.score):
        told.append(f"the score was {then.score} and is {now.score}")
    if len(then.faces) != len(now.faces):
        return [*told, f"there were {len(then.faces)} faces and there are {len(now.faces)}"]
    for one, other in zip(then.faces, now.faces, strict=True):
        for name in sorted({*one.detectors, *other.detectors}):
            was, is_ = one.detectors.get(name), other.detectors.get(name)
            if was is None or is_ is None:
                told.append(f"{name} took part only {'then' if is_ is None else 'now'}")
            elif was.weights != is_.weights:
                told.append(f"{name} had other weights: {was.weights}, now {is_.weights}")
            elif not _same(was.score, is_.score):
                told.append(f"{name} gave face {one.track} {was.score} and gives {is_.score}")
    return told


def _failed_again(before: dict[str, str], now: MediaError) -> list[str]:
    """None where an input fails as it did."""
    return [] if before["code"] == now.code else [f"it failed otherwise then: {before['reason']}; now {now}"]


def _same(one: float | None, other: float | None) -> bool:
    return one == other or (one is not None and other is not None and abs(one - other) <= TOLERANCE)


def verify(report: Path, paths: Sequence[Path], stages: LocalStages) -> Iterator[tuple[str, list[str]]]:
    """Analyses a report's files again with its settings: each file's name, and what is otherwise now.

    `paths`: where the files lie now: folders that hold them, or themselves in the report's order; by default the
    report's own folder and the current one. Raises UsageError.
    """
    from ui.scan import analyse, media_error

    found = read_report(report)
    answers = found["answers"]
    try:
        settings = Settings.model_validate(found["settings"])
    except ValidationError as error:
        raise UsageError(
            f"--verify {report}: its settings are not this version's: {error.errors()[0]['msg']}"
        ) from None
    for path, answer in zip(_places(report, paths, answers), answers, strict=True):
        failed = answer.get("error")
        if path is None:
            gone = [f"not found beside the report or here; name it: --verify {report.name} FILE"]
            yield answer["name"], [] if failed and failed["code"] == MediaMissing.code else gone
            continue
        try:
            again = analyse(path, stages, settings, found.get("extractor"))
        except Exception as error:  # a fault of ours costs one answer here too
            told = media_error(error)
            yield answer["name"], _failed_again(failed, told) if failed else [str(told)]
            continue
        if failed:
            yield answer["name"], [f"it could not be analysed then ({failed['reason']}) and can be now"]
        else:
            yield answer["name"], differences(answer["result"], again.result)


def _places(report: Path, paths: Sequence[Path], answers: Sequence[dict[str, Any]]) -> list[Path | None]:
    """Where each answer's file lies; of several of its name the one with its bytes."""
    if paths and not all(path.is_dir() for path in paths):
        if len(paths) != len(answers):
            raise UsageError(f"--verify {report}: it speaks of {len(answers)} files, {len(paths)} are given")
        return list(paths)
    folders = paths or (report.parent, Path())
    found: list[Path | None] = []
    for answer in answers:
        there = [file for folder in folders if (file := folder / Path(answer["name"]).name).is_file()]
        wanted = answer["result"]["media"]["sha256"] if "result" in answer else None
        same = [file for file in there if wanted and len(there) > 1 and _sha256(file) == wanted]
        found.append(next(iter([*same, *there]), None))
    return found


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
