"""A report of analyses as one web page, one PDF or one JSON file; each needs no other file and can be run again."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from detectors.result import AnalysisResult
from preprocessing.errors import MediaError
from ui import report_words
from ui.cards import STYLE, crops, facts, notices, verdict_card
from ui.errors import UsageError
from ui.media_signs import encoding_signs
from ui.palette import DASHES, PALETTE
from ui.report_view import Person, Weights, numbered, people, weights_used
from ui.words import RE_ENCODED, TOGETHER, clock, printable, probability

if TYPE_CHECKING:
    from detectors.result import Analysis

HERE = Path(__file__).parent
SCHEMA = "unmask.report/2"
TYPES = {"html": "text/html", "pdf": "application/pdf", "json": "application/json"}
"""The forms of a report and their media types."""


@dataclass(frozen=True)
class Item:
    """One analysed file with its pictures, ready to be drawn."""

    result: AnalysisResult
    people: list[Person]
    signs: list[str]
    weights: list[Weights]


@dataclass
class Report:
    """Analyses as they are made. `settings` is what they ran with (keys of preprocessing.settings.Settings),
    `extractor` what found the landmarks of a landmark file, `maps` how each detector's heatmaps are made
    (detectors.explain.map_kind). Of paths it keeps the file's name alone."""

    settings: dict[str, Any]
    extractor: str | None = None
    maps: Mapping[str, str] = field(default_factory=dict)
    items: list[Item] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    answers: list[dict[str, Any]] = field(default_factory=list)
    made: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"))

    def add(self, path: Path, analysis: Analysis) -> None:
        """An analysis with its pictures."""
        self.add_result(path.name, analysis.result, analysis.artifacts)

    def add_result(self, name: str, result: AnalysisResult, artifacts: Mapping[str, bytes]) -> None:
        """A finished result with its pictures by name; missing ones are left out."""
        weights = weights_used(result)
        self.items.append(Item(result, people(result, artifacts, self.maps), encoding_signs(result), weights))
        answer = {"name": printable(Path(name).name), "result": result.model_dump(mode="json")}
        self.answers.append({**answer, "weights": {one.detector: one.sha256 for one in weights}})

    def fail(self, path: Path, error: MediaError) -> None:
        """A file that could not be analysed."""
        name = printable(path.name)
        self.failed.append((name, str(error)))
        self.answers.append({"name": name, "error": {"code": error.code, "reason": error.reason}})

    @property
    def title(self) -> str:
        """The file's name, or how many there are."""
        return self.answers[0]["name"] if len(self.answers) == 1 else self.count

    @property
    def count(self) -> str:
        """How many files there are, in words."""
        return numbered(len(self.answers), report_words.FILES)

    @property
    def weights(self) -> list[Weights]:
        """Of all items, each once."""
        return list({(one.detector, one.sha256): one for item in self.items for one in item.weights}.values())

    def document(self) -> dict[str, Any]:
        """What `--verify` reads; the page and the PDF carry it inside."""
        return {
            "schema": SCHEMA,
            "made": self.made,
            "unmask": version("unmask-forensics"),
            "settings": self.settings,
            "extractor": self.extractor,
            "how_to_read": list(report_words.HOW_TO_READ),
            "limits": {one.detector: one.limits for one in self.weights if one.limits},
            "answers": self.answers,
        }

    def page(self) -> str:
        """All text from files, names and cards is escaped; the JSON inside cannot end its element."""
        loader = FileSystemLoader(HERE)
        environment = Environment(
            loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        environment.filters["base64"] = lambda content: b64encode(content).decode()
        environment.filters["probability"] = probability
        environment.globals.update(
            {
                "verdict_card": verdict_card,
                "notices": notices,
                "facts": facts,
                "crops": crops,
                "timeline": timeline,
                "line_of": line_of,
            }
        )
        return environment.get_template("report.html").render(
            title=self.title,
            style=STYLE + (HERE / "report.css").read_text(encoding="utf-8") + _line_styles(),
            made=self.made,
            version=version("unmask-forensics"),
            count=numbered(len(self.items), report_words.FILES),
            items=self.items,
            failed=self.failed,
            weights=self.weights,
            words=report_words,
            together=TOGETHER,
            re_encoded=RE_ENCODED,
            verify_command=report_words.VERIFY_COMMAND.format(file=report_words.VERIFY_FILE.format(ending="html")),
            settings=json.dumps(self.settings, indent=1),
            document=json.dumps(self.document()).replace("<", "\\u003c"),
        )

    def render(self, form: str) -> bytes:
        """The report as "html", "pdf" or "json"."""
        if form == "pdf":
            from ui.report_pdf import pdf

            return pdf(self)
        if form == "json":
            return (json.dumps(self.document(), indent=1) + "\n").encode()
        return self.page().encode()

    def write(self, path: Path) -> None:
        """In the form that the name's ending says. Raises UsageError where the file cannot be written."""
        content = self.render(form_of(path))
        try:
            path.write_bytes(content)
        except OSError as error:
            raise UsageError(f"--report {path}: {error.strerror}") from None


def form_of(path: Path) -> str:
    """ "html", "pdf" or "json" by the ending. Raises UsageError for another."""
    form = {".htm": "html"}.get(path.suffix.lower(), path.suffix.lower()[1:])
    if form not in TYPES:
        raise UsageError(f"--report {path}: a report ends in .html, .pdf or .json")
    return form


def finished_report(
    result: AnalysisResult,
    artifacts: Mapping[str, bytes],
    settings: dict[str, Any] | None = None,
    maps: Mapping[str, str] | None = None,
) -> Report:
    """The report of an analysis that a service has finished, for a download: `finished_report(...).render("pdf")`.

    `settings`: what it ran with, where that is known; else the detectors that took part, and this version's defaults.
    `maps`: how each detector's heatmaps are made, as the service says of its detectors.
    """
    from preprocessing.settings import Settings

    taking_part = sorted({name for face in result.faces for name in face.detectors})
    known = settings if settings is not None else {"detectors": taking_part or None}
    report = Report(Settings.model_validate(known).model_dump(mode="json"), maps=maps or {})
    report.add_result(result.media.name, result, artifacts)
    return report


def picture_names(result: AnalysisResult) -> list[str]:
    """The artifacts that a report shows: faces, crops and heatmaps."""
    names = [face.thumbnail for face in result.faces if face.thumbnail]
    for face in result.faces:
        for score in face.detectors.values():
            names += [name for one in score.heatmaps for name in (one.crop, one.map)]
    return list(dict.fromkeys(names))


def timeline(person: Person) -> Any:
    """Each detector's score over time as an SVG; "" where nothing has a time axis."""
    from train.report.svg import Chart, Scale, share

    if not person.series:
        return ""
    first, last = person.times[0], max(person.times[1], person.times[0] + 1e-3)
    ticks = [(first + (last - first) * i / 4, clock(first + (last - first) * i / 4)) for i in range(5)]
    across = Scale(first, last, ticks, report_words.TIMELINE_TIME)
    chart = Chart(across, share(report_words.TIMELINE_SCORE), report_words.TIMELINE_ALT, 860, 240)
    chart.line([(first, person.threshold), (last, person.threshold)], "threshold")
    for number, (name, points) in enumerate(person.series.items()):
        chart.line(points, line_of(number), name)
    return chart.render()


def line_of(number: int) -> str:
    """The class of a detector's line by its place."""
    return f"s{number % (len(PALETTE) * len(DASHES))}"


def _line_styles() -> str:
    """A colour and a dash for each line; the two repeat after different numbers, so no pair does before 40."""
    dashes = list(DASHES.values())
    return "".join(
        f".s{n} {{ stroke: {PALETTE[n % len(PALETTE)]}; stroke-dasharray: {dashes[n % len(dashes)]}; }}\n"
        for n in range(len(PALETTE) * len(dashes))
    )
