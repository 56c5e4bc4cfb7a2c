"""`unmask scan`: media files in, a table and one JSON document out; one bad file costs one answer."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.padding import Padding
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from preprocessing.errors import MediaError, MediaMissing
from preprocessing.media.formats import SUFFIXES
from ui.errors import UsageError, describe

if TYPE_CHECKING:
    from detectors.local import LocalStages
    from detectors.pipeline import Progress
    from detectors.result import Analysis, AnalysisResult
    from detectors.store import LoadedDetector
    from preprocessing.settings import Backend, Settings
    from ui.report import Report


@dataclass(frozen=True)
class Scanned:
    """One input's answer: a result or an error."""

    path: Path
    result: AnalysisResult | None
    error: MediaError | None

    @property
    def answered(self) -> bool:
        """Analysed in full, with a face to speak of."""
        return self.result is not None and not self.result.incomplete and self.result.verdict != "no_face"

    def document(self) -> dict[str, Any]:
        """The entry of the JSON list."""
        entry: dict[str, Any] = {"path": str(self.path)}
        if self.result is not None:
            entry["result"] = self.result.model_dump(mode="json")
        if self.error is not None:
            entry["error"] = {"code": self.error.code, "reason": self.error.reason, "hint": self.error.hint}
        return entry


def load_settings(config: Path | None, detectors: str | None) -> Settings:
    """Settings from a YAML file and --detectors. Raises UsageError that names file, key and what is wrong."""
    import yaml
    from pydantic import ValidationError

    from preprocessing.settings import Settings

    given: Any = {}
    if config is not None:
        try:
            given = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
            raise UsageError(f"--config {config}: {reason}") from None
        if not isinstance(given, dict):
            raise UsageError(f"--config {config}: expected keys and values", "for example `limits: {max_fps: 60}`")
    if detectors is not None:
        given["detectors"] = [name.strip() for name in detectors.split(",") if name.strip()]
    try:
        return Settings.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"--config {config}: {where + ': ' if where else ''}{message}") from None


def expand(paths: Sequence[Path], recursive: bool) -> tuple[list[Path], list[str]]:
    """The inputs in the order given, with --recursive folders replaced by their media files; and what to tell."""
    if not recursive:
        return list(paths), []
    found: list[Path] = []
    notes = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        files = sorted(p for p in path.rglob("*") if p.is_file() and not p.name.startswith("."))
        media = [p for p in files if p.suffix.lower() in SUFFIXES]
        found += media
        if len(media) < len(files):
            notes.append(f"{path}: {len(files) - len(media)} files left out that are not named like media")
        if not media:
            notes.append(f"{path}: no media files in it")
    return found, notes


def scan(
    paths: Sequence[Path],
    stages: LocalStages,
    settings: Settings,
    *,
    extractor: str | None = None,
    heatmaps: Path | None = None,
    report: Report | None = None,
    annotated: Path | None = None,
    debug: bool = False,
) -> Iterator[Scanned]:
    """Analyse one after the other, showing progress on stderr where that is a terminal; `report` gets all of it.

    An error of our own costs one answer too, unless `debug`, which raises it.
    """
    from ui.words import STAGES, printable

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(32), TextColumn("{task.fields[stage]}"), TimeElapsedColumn())
    taken: set[str] = set()
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=1.0, stage="")

        def show(stage: str, share: float | None) -> None:
            if "/" in stage:  # one detector's: a single bar has no room for each
                return
            bar.update(task, completed=share or 0.0, stage=STAGES.get(stage, stage))

        for number, path in enumerate(paths, 1):
            bar.reset(task, description=f"{number}/{len(paths)} {_escape(printable(path.name))}", stage="")
            try:
                analysis = analyse(path, stages, settings, extractor, show)
            except Exception as error:
                if debug and not isinstance(error, MediaError):
                    raise
                told = media_error(error)
                if report is not None:
                    report.fail(path, told)
                yield Scanned(path, None, told)
                continue
            if report is not None:
                report.add(path, analysis)
            if heatmaps is not None or annotated is not None:
                name = folder_name(path, taken)
            if heatmaps is not None:
                write_heatmaps(analysis, heatmaps / name)
            if annotated is not None and analysis.result.media.kind != "landmarks":
                _annotate(path, analysis, annotated / name, settings)
            yield Scanned(path, analysis.result, None)


def media_error(error: Exception) -> MediaError:
    """An error as the answer to one input: its own, or that of a fault of ours."""
    if isinstance(error, MediaError):
        return error
    return MediaError(f"unexpected {describe(error)}", "please report it (--debug)")


def _escape(name: str) -> str:
    from rich.markup import escape

    return escape(name if len(name) <= 40 else f"{name[:18]}…{name[-18:]}")


def analyse(
    path: Path,
    stages: LocalStages,
    settings: Settings,
    extractor: str | None = None,
    show: Progress = lambda stage, share: None,
) -> Analysis:
    """An image, a video, or LRNet's landmark file (.txt, whose landmarks `extractor` found). Raises MediaError."""
    from detectors.local import analyse_file
    from ui.words import printable

    name = printable(path.name)
    if path.is_dir():
        raise MediaMissing(f"{printable(path)} is a directory", "give its files, or --recursive")
    if path.suffix.lower() == ".txt":
        from detectors.landmark_scan import analyse_landmarks

        return analyse_landmarks(path, stages, settings, extractor=extractor, name=name, progress=show)
    return analyse_file(path, stages, settings, name=name, progress=show)


def folder_name(path: Path, taken: set[str]) -> str:
    """A folder for one input's pictures: the file's name, numbered where two inputs share it."""
    base = re.sub(r"[^\w.-]+", "_", path.name).strip(".") or "input"
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    taken.add(name)
    return name


def _annotate(path: Path, analysis: Analysis, folder: Path, settings: Settings) -> None:
    from ui.annotate import annotate

    try:
        annotate(path, analysis, folder, settings.limits)
    except OSError as error:
        raise UsageError(f"--annotate: {folder} cannot be written: {error.strerror}") from None


def write_heatmaps(analysis: Analysis, folder: Path) -> None:
    """Every file of the analysis under its artifact name, and for each heatmap `....overlay.jpg`, the map over its
    crop. Raises UsageError where the folder cannot be written."""
    from ui.overlay import overlay_jpeg

    files = dict(analysis.artifacts)
    for face in analysis.result.faces:
        for detector in face.detectors.values():
            for heatmap in detector.heatmaps:
                crop, drawn = analysis.artifacts[heatmap.crop], analysis.artifacts[heatmap.map]
                files[f"{Path(heatmap.map).with_suffix('')}.overlay.jpg"] = overlay_jpeg(crop, drawn)
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
    except OSError as error:
        raise UsageError(f"--heatmaps: {folder} cannot be written: {error.strerror}") from None


def stages_on(
    backend: Backend, detectors: Sequence[str] | None = None, loaded: Mapping[str, LoadedDetector] | None = None
) -> LocalStages:
    """The pipeline's stages in this process; another backend is made ready for the chosen `detectors` alone.

    Raises UsageError where one of these is not there, or the backend is not installed.
    """
    from detectors.local import LocalStages
    from detectors.pipeline import choose
    from detectors.store import load_available

    given = load_available() if loaded is None else loaded
    try:
        chosen = choose(given, detectors)
    except ValueError as error:
        raise UsageError(f"--detectors: {error}") from None
    if backend == "torch":
        return LocalStages(given)
    from detectors.onnx_export import NoPackage

    try:
        return LocalStages(chosen, backend=backend)
    except NoPackage as error:
        raise UsageError(f"--backend {backend}: {error}") from None


def verify(report: Path, paths: list[Path], backend: Backend) -> int:
    """Prints for each of a report's files whether it reproduces; exit status."""
    from ui.report_verify import verify as again
    from ui.words import printable

    alike = True
    for name, told in again(report, paths, stages_on(backend)):
        print(f"{printable(name)}: {'; '.join(told) or 'reproduces'}")
        alike = alike and not told
    return 0 if alike else 3


def write_json(scanned: Sequence[Scanned], target: str) -> None:
    """The list of answers to stdout ("-") or a file."""
    text = json.dumps([one.document() for one in scanned], indent=1) + "\n"
    if target == "-":
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--json {target}: {error.strerror}") from None


def render(scanned: Sequence[Scanned]) -> Group:
    """The table, then for each input why, and what to know."""
    from ui.words import FAILED, SCALE, VERDICTS, printable, score_with_interval

    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Input", overflow="fold", ratio=2)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Score (interval)")
    table.add_column("Faces", justify="right")
    table.add_column("Detectors", overflow="fold")
    notes: list[Any] = []
    for one in scanned:
        name = printable(one.path.name or one.path)
        if one.result is None:
            table.add_row(Text(name), Text(f"{FAILED.sign} {FAILED.title}", FAILED.terminal), "–", "–", "–")
        else:
            words = VERDICTS[one.result.verdict]
            verdict = Text(f"{words.sign} {words.title}", words.terminal)
            faces = str(len(one.result.faces))
            table.add_row(Text(name), verdict, score_with_interval(one.result), faces, _detectors(one.result))
        notes += _notes(name, one)
    scale = [Text(f"\n{SCALE}", "dim")] if any(one.result is not None for one in scanned) else []
    return Group(table, *scale, *notes)


def _detectors(result: AnalysisResult) -> Text:
    from ui.words import STATUS, detector_scores, probability

    lines = []
    for name, score in detector_scores(result).items():
        status = f" ({STATUS[score.status]})" if score.status != "ok" else ""
        lines.append(f"{name} {probability(score.score)}{status}")
    return Text("\n".join(lines) or "–")


def _notes(name: str, one: Scanned) -> Iterator[Any]:
    from ui.words import VERDICTS, printable

    yield Text(f"\n{name}", "bold")
    lines = []
    if one.error is not None:
        lines.append(Text(printable(str(one.error))))
    if one.result is not None:
        lines.append(Text(VERDICTS[one.result.verdict].meaning))
        lines += [Text(reason) for reason in one.result.reasons]
        lines += [Text.assemble(("Note: ", "yellow"), notice.message) for notice in one.result.warnings]
    yield Padding(Group(*lines), (0, 0, 0, 2))
