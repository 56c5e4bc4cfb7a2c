"""A4 paper in the look of the pages: text, tables, gauges, curves and pictures, on fpdf2."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from fpdf import FPDF
from fpdf.enums import MethodReturnValue, WrapMode, XPos, YPos
from fpdf.fonts import TTFFont

from ui.palette import PALETTE
from ui.report_words import LANGUAGE, PAGE_OF, PICTURE_ALT
from ui.words import FAKE, REAL, clock

MARGIN, BOTTOM = 18.0, 20.0
INK, SOFT, LINE, GROUND = "#1c2230", "#6a7280", "#dfe2e8", "#f6f7f9"
DASHES = ((0.0, 0.0), (2.2, 1.2), (0.6, 0.9), (4.0, 1.0), (1.2, 2.2))
"""Of lines, dash and gap; the first is solid."""
MISSING = "?"
"""For what the font cannot write."""
Points = Sequence[tuple[float, float]]


@cache
def _font(weight: str) -> Path:
    """Source Sans Pro (OFL): Latin, Greek and Cyrillic."""
    found = importlib.util.find_spec("font_source_sans_pro")
    assert found is not None and found.origin is not None
    return Path(found.origin).parent / "files" / f"SourceSansPro-{weight}.ttf"


class Paper(FPDF):
    """Lengths in millimetres, colours #rrggbb. Text flows down the page and over to the next."""

    def __init__(self, title: str, foot: str) -> None:
        super().__init__(format="A4")
        self.foot = foot
        self.set_margins(MARGIN, MARGIN, MARGIN)
        self.set_auto_page_break(True, BOTTOM)
        self.set_title(title)
        self.set_lang(LANGUAGE)
        self.set_creator("unmask")
        self.add_font("sans", "", _font("Regular"))
        self.add_font("sans", "B", _font("Semibold"))
        font = self.fonts["sans"]
        self._known = frozenset(font.cmap) if isinstance(font, TTFFont) else frozenset()
        self.add_page()

    def footer(self) -> None:
        """Called by fpdf2 at the end of each page."""
        self.set_y(-13)
        self.text_style(8, SOFT)
        self.cell(self.epw - 20, 5, self.safe(self.foot))
        self.cell(20, 5, PAGE_OF.format(page=self.page_no(), pages="{nb}"), align="R")

    def safe(self, text: str) -> str:
        """Characters that the font lacks become question marks; the JSON inside the PDF has them all."""
        return "".join(c if ord(c) in self._known or c == "\n" else MISSING for c in text)

    def text_style(self, size: float, colour: str = INK, bold: bool = False) -> None:
        """Size in points."""
        self.set_font("sans", "B" if bold else "", size)
        self.set_text_color(colour)

    def words(
        self, text: str, size: float = 10, colour: str = INK, bold: bool = False, width: float = 0, after: float = 0
    ) -> None:
        """A paragraph from the present place, `width` wide (0: to the margin); then `after` below it, at its left."""
        self.text_style(size, colour, bold)
        self.multi_cell(
            width, size * 0.48, self.safe(text), align="L", new_x=XPos.LEFT, new_y=YPos.NEXT, wrapmode=WrapMode.WORD
        )
        self.ln_at(after)

    def lines(self, text: str, size: float, width: float) -> int:
        """How many lines `words` would take."""
        self.text_style(size)
        found = self.multi_cell(width, text=self.safe(text), dry_run=True, output=MethodReturnValue.LINES)
        return len(found) if isinstance(found, list) else 1

    def ln_at(self, height: float) -> None:
        """Down without going back to the left margin."""
        self.set_xy(self.get_x(), self.get_y() + height)

    def room(self, height: float) -> None:
        """A new page where less than `height` is left."""
        if self.will_page_break(height):
            self.add_page()

    def heading(self, text: str, keep: float = 30) -> None:
        """With `keep` below it on the same page."""
        self.room(keep + 10)
        self.ln_at(5)
        self.set_x(MARGIN)
        self.words(text, 13, bold=True, after=2)

    def bullet(self, text: str, colour: str) -> None:
        """A line with a dot of that colour."""
        self.room(5)
        top = self.get_y()
        self.set_x(MARGIN + 4)
        self.words(text, 9.5, width=self.epw - 4, after=1)
        self.set_fill_color(colour)
        if self.get_y() > top:
            self.circle(MARGIN + 1.2, top + 2.3, 0.75, style="F")
        self.set_x(MARGIN)

    def gauge(self, score: float, low: float, high: float, threshold: float, colour: str) -> None:
        """The score as a dot on the axis from real to fake, its interval, and the threshold as a line."""
        left, width, y = MARGIN, self.epw, self.get_y() + 2
        self.set_fill_color(LINE)
        self.rect(left, y, width, 2.6, "F", round_corners=True, corner_radius=1.3)
        self.set_fill_color(colour)
        with self.local_context(fill_opacity=0.35):
            band = max((high - low) * width, 1.5)
            self.rect(left + low * width, y - 0.8, band, 4.2, "F", round_corners=True, corner_radius=min(2, band / 2))
        self.set_draw_color(SOFT)
        self.set_line_width(0.4)
        self.line(left + threshold * width, y - 2, left + threshold * width, y + 4.6)
        self.set_draw_color("#ffffff")
        self.set_line_width(0.8)
        self.circle(left + score * width, y + 1.3, 2.5, style="FD")
        self.set_y(y + 5)
        self.text_style(8, SOFT)
        self.cell(width / 2, 4, REAL)
        self.cell(width / 2, 4, FAKE, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def facts(self, rows: Sequence[tuple[str, str]]) -> None:
        """Names and values in two columns."""
        for key, value in rows:
            self.room(6)
            top = self.get_y()
            self.words(key, 9.5, SOFT, width=48)
            below = self.get_y()
            self.set_xy(MARGIN + 50, top)
            self.words(value, 9.5, width=self.epw - 50)
            self.set_xy(MARGIN, max(below, self.get_y()) + 1)

    def curves(self, series: Mapping[str, Points], first: float, last: float, threshold: float) -> None:
        """Scores 0..1 over seconds, a line each with its name below, the threshold dashed."""
        height, left, width = 38.0, MARGIN + 9, self.epw - 9
        self.room(height + 16)
        top = self.get_y() + 2
        last = max(last, first + 1e-3)
        self.set_line_width(0.15)
        self.set_draw_color(LINE)
        self.text_style(7.5, SOFT)
        for value, label in ((0.0, REAL), (0.5, "0.5"), (1.0, FAKE)):
            y = top + (1 - value) * height
            self.line(left, y, left + width, y)
            self.set_xy(MARGIN, y - 2)
            self.cell(8, 4, label, align="R")
        for i in range(5):
            self.set_xy(left + width * i / 4 - 8, top + height + 1)
            self.cell(16, 4, clock(first + (last - first) * i / 4), align="C")

        def place(time: float, score: float) -> tuple[float, float]:
            return left + width * (time - first) / (last - first), top + (1 - min(max(score, 0), 1)) * height

        self.set_draw_color(SOFT)
        self.set_dash_pattern(1.2, 0.8)
        self.line(*place(first, threshold), *place(last, threshold))
        self.set_dash_pattern()
        self.set_line_width(0.5)
        for number, points in enumerate(series.values()):
            self.set_draw_color(PALETTE[number % len(PALETTE)])
            self.dashed(number)
            self.polyline([place(*point) for point in points], style="D")
            self.set_dash_pattern()
        self.set_xy(left, top + height + 6)
        for number, name in enumerate(series):
            self.text_style(8.5)
            label = self.safe(name)
            if self.get_x() + self.get_string_width(label) + 15 > MARGIN + self.epw:
                self.set_xy(left, self.get_y() + 5)
            self.set_draw_color(PALETTE[number % len(PALETTE)])
            self.set_line_width(0.7)
            self.dashed(number)
            self.line(self.get_x(), self.get_y() + 2.4, self.get_x() + 8, self.get_y() + 2.4)
            self.set_dash_pattern()
            self.set_x(self.get_x() + 9)
            self.cell(self.get_string_width(label) + 6, 5, label)
        self.set_xy(MARGIN, self.get_y() + 7)

    def dashed(self, number: int) -> None:
        """The dash of a detector's line by its place, so that lines are told apart without their colours."""
        dash, gap = DASHES[number % len(DASHES)]
        self.set_dash_pattern(dash, gap)

    def pictures(self, found: Sequence[tuple[bytes, str]], alt: str, across: int = 4) -> None:
        """JPEGs in rows with their captions; square, as face crops are."""
        gap = 4.0
        side = (self.epw - gap * (across - 1)) / across
        for number, (content, caption) in enumerate(found):
            column = number % across
            if column == 0:
                self.room(side + 7)
                top = self.get_y()
            x = MARGIN + column * (side + gap)
            told = PICTURE_ALT.format(alt=alt, caption=caption)
            self.image(io.BytesIO(content), x, top, side, side, alt_text=told, keep_aspect_ratio=True)
            self.set_xy(x, top + side + 0.5)
            self.text_style(8, SOFT)
            if (wide := self.get_string_width(self.safe(caption)) + 1) > side:
                self.text_style(8 * side / wide, SOFT)
            self.cell(side, 4, self.safe(caption), align="C")
            if column == across - 1 or number == len(found) - 1:
                self.set_xy(MARGIN, top + side + 6.5)
