"""A report as a PDF: the same content as the page, with the JSON that `--verify` reads attached."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from fpdf.enums import TableBordersLayout
from fpdf.fonts import FontFace

from ui import report_words as texts
from ui.cards import fact_rows, notice_lines
from ui.paper import GROUND, INK, LINE, MARGIN, SOFT, Paper
from ui.report_verify import ATTACHMENT
from ui.report_view import Person, Weights
from ui.words import FAILED, RE_ENCODED, TOGETHER, VERDICTS, Wording, between, percent, printable, probability

if TYPE_CHECKING:
    from ui.report import Item, Report

NOTICE = "#c47f03"


def pdf(report: Report) -> bytes:
    """The whole report; every item begins on a page of its own."""
    made_by = {"version": version("unmask-forensics"), "made": report.made}
    paper = Paper(texts.PAGE_TITLE.format(title=report.title), texts.FOOT.format(**made_by))
    paper.words(texts.HEADING, 17, bold=True)
    paper.words(texts.ABOUT.format(files=report.count, **made_by), 9.5, SOFT, after=4)
    for number, item in enumerate(report.items):
        if number:
            paper.add_page()
        _item(paper, item)
    for name, reason in report.failed:
        paper.room(30)
        paper.ln_at(4)
        _title(paper, name, FAILED, reason, "")
    _weights(paper, report.weights)
    paper.heading(texts.HOW_TO_READ_HEAD)
    for paragraph in texts.HOW_TO_READ:
        paper.words(paragraph, 9.5, after=2)
    command = texts.VERIFY_COMMAND.format(file=texts.VERIFY_FILE.format(ending="pdf"))
    told = texts.VERIFY_ATTACHED.format(verify=texts.VERIFY, command=command, attachment=ATTACHMENT)
    paper.words(told, 9.5, after=2)
    paper.heading(texts.SETTINGS, keep=14)
    paper.words(" · ".join(f"{key} {value}" for key, value in _flat(report.settings)), 8, SOFT)
    document = json.dumps(report.document(), indent=1).encode()
    paper.embed_file(
        bytes=document, basename=ATTACHMENT, mime_type="application/json",
        associated_file_relationship="DATA",
    )  # fmt: skip
    out = io.BytesIO()
    paper.output(out)
    return out.getvalue()


def _item(paper: Paper, item: Item) -> None:
    result = item.result
    words = VERDICTS[result.verdict]
    number = percent(result.score) if result.score is not None else ""
    _title(paper, printable(result.media.name), words, words.meaning, number)
    if result.score is not None:
        low, high = result.interval or (result.score, result.score)
        span = between(result.interval, percent)
        told = (texts.GAUGE_INTERVAL if span else texts.GAUGE).format(score=number, span=span)
        paper.words(told, 9.5, SOFT, after=1)
        paper.gauge(result.score, low, high, result.threshold, words.colour)
    paper.ln_at(2)
    for reason in result.reasons:
        paper.bullet(reason, words.colour)
    for line in notice_lines(result):
        paper.bullet(line, NOTICE)
    for person in item.people:
        _person(paper, person)
    paper.heading(texts.THE_MEDIA)
    paper.facts(fact_rows(result))
    paper.ln_at(1)
    paper.words(RE_ENCODED, 10, bold=True, after=1)
    for sign in item.signs:
        paper.bullet(sign, SOFT)
    paper.ln_at(1)
    paper.words(" · ".join(f"{name} {number}" for name, number in result.versions.items()), 8, SOFT)


def _title(paper: Paper, name: str, words: Wording, meaning: str, number: str) -> None:
    """The verdict on a ground of its colour, the probability at the right."""
    right = 34.0 if number else 0.0
    start = paper.get_y()
    inner = paper.epw - 12 - right
    lines = paper.lines(name, 9, inner) + paper.lines(meaning, 10, inner)
    height = 16 + 4.8 * lines
    paper.set_fill_color(GROUND)
    paper.rect(MARGIN, start, paper.epw, height, "F", round_corners=True, corner_radius=2.5)
    paper.set_fill_color(words.colour)
    paper.rect(MARGIN, start, 2, height, "F", round_corners=True, corner_radius=1)
    paper.set_xy(MARGIN + 7, start + 3.5)
    paper.words(name, 9, SOFT, width=inner)
    paper.words(words.title, 17, words.colour, bold=True, width=inner, after=0.5)
    paper.words(meaning, 10, width=inner)
    if number:
        paper.set_xy(MARGIN + paper.epw - right - 4, start + 5)
        paper.text_style(25, INK, bold=True)
        paper.cell(right, 12, number, align="R")
    paper.set_xy(MARGIN, start + height + 4)


def _person(paper: Paper, person: Person) -> None:
    paper.heading(person.title, keep=45)
    paper.words(person.span, 9, SOFT, after=2)
    top = paper.get_y()
    left = 0.0
    if person.thumbnail:
        paper.image(io.BytesIO(person.thumbnail), MARGIN, top, 30, 30, alt_text=person.title, keep_aspect_ratio=True)
        left = 35.0
    page = paper.page_no()
    _scores(paper, person, left)
    paper.set_xy(MARGIN, max(paper.get_y() + 4, top + 34 if left and paper.page_no() == page else 0))
    if person.agreement:
        paper.words(person.agreement, 9.5, after=1)
    if person.series:
        paper.curves(person.series, *person.times, person.threshold)
    if person.heatmaps and all(len(pictures) == 1 for pictures in person.heatmaps.values()):
        paper.room(52)
        paper.words(texts.WHERE, 10, bold=True, after=1.5)
        firsts = [(pictures[0][0], f"{name} · {pictures[0][1]}") for name, pictures in person.heatmaps.items()]
        paper.pictures(firsts, texts.HEATMAP_ALT)
        told = [f"{name}: {person.made[name]}" for name in person.heatmaps if name in person.made]
        if told:
            paper.words(f"{'; '.join(told)}.", 8, SOFT, after=1)
        return
    for name, pictures in person.heatmaps.items():
        paper.room(52)
        paper.words(texts.WHERE_ONE.format(name=name), 10, bold=True, after=1.5)
        if name in person.made:
            paper.words(f"{person.made[name][:1].upper()}{person.made[name][1:]}.", 8, SOFT, after=1.5)
        paper.pictures(pictures, texts.HEATMAP_ALT_ONE.format(name=name))


def _scores(paper: Paper, person: Person, left: float) -> None:
    paper.text_style(9)
    paper.set_draw_color(LINE)
    paper.set_line_width(0.2)
    paper.set_fill_color("#ffffff")
    paper.set_left_margin(MARGIN + left)
    bold = FontFace(emphasis="BOLD")
    with paper.table(
        width=int(paper.epw), col_widths=(26, 13, 21, 40), align="RIGHT", text_align=("LEFT", "RIGHT", "RIGHT", "LEFT"),
        line_height=5, padding=(0.8, 1.5), borders_layout=TableBordersLayout.HORIZONTAL_LINES,
        headings_style=FontFace(color=SOFT),
    ) as table:  # fmt: skip
        heading = table.row()
        for name in texts.SCORES_HEAD:
            heading.cell(name)
        for one in person.rows:
            row = table.row()
            row.cell(paper.safe(one.name), style=bold)
            row.cell(probability(one.score))
            row.cell(one.moves)
            row.cell(paper.safe("\n".join(filter(None, (one.status, one.weights)))))
        if person.fused:
            row = table.row()
            for text in (TOGETHER, person.fused, "", person.interval):
                row.cell(text, style=bold)
    paper.set_left_margin(MARGIN)


def _weights(paper: Paper, weights: list[Weights]) -> None:
    if weights:
        paper.heading(texts.WEIGHTS)
    for one in weights:
        paper.room(18)
        paper.words(one.detector, 10, bold=True, after=0.5)
        if one.limits:
            paper.words(one.limits, 9.5, after=0.5)
        paper.words(one.sum, 8, SOFT, after=2.5)


def _flat(settings: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield above + key, texts.SETTING_ALL if value is None else value
