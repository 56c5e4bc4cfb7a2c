"""Small static charts as SVG: axes with any scale, lines, bars and points; colours come from the page's style sheet."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Point = tuple[float, float]
LEFT, RIGHT, TOP, BOTTOM = 56, 20, 12, 40
COLOURS, DASHES = 8, 7
"""Of lines in the style sheet, .s0 to .s7 and .d0 to .d6: no two of the first 56 lines have both in common, and no two
neighbours have either, so that they are told apart without their colours."""


def _same(value: float) -> float:
    return value


@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`: `ticks` (value, label), `warp` from values to what is even on paper."""

    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    title: str
    warp: Callable[[float], float] = _same

    def place(self, value: float) -> float:
        """0 at `low`, 1 at `high`; values beyond are put on the edge."""
        low, high = self.warp(self.low), self.warp(self.high)
        return (self.warp(min(max(value, self.low), self.high)) - low) / (high - low)


def share(title: str, high: float = 1.0) -> Scale:
    """0 to 1 (or `high`) with ticks at quarters."""
    return Scale(0, high, [(high * i / 4, f"{high * i / 4:.3g}") for i in range(5)], title)


@dataclass
class Chart:
    """A chart of fixed proportions that scales with its column. `label` says what it shows to who does not see it."""

    x: Scale
    y: Scale
    label: str
    width: int = 360
    height: int = 300
    parts: list[str] = field(default_factory=list)

    def at(self, point: Point) -> Point:
        """Where a point lies in the picture."""
        plot_width, plot_height = self.width - LEFT - RIGHT, self.height - TOP - BOTTOM
        return (
            round(LEFT + self.x.place(point[0]) * plot_width, 1),
            round(self.height - BOTTOM - self.y.place(point[1]) * plot_height, 1),
        )

    def line(self, points: Iterable[Point], css: str, title: str = "", steps: bool = False) -> None:
        """A line through the points; `steps`: across, then up."""
        placed = [self.at(point) for point in points]
        if not placed:
            return
        path = f"M{placed[0][0]} {placed[0][1]}"
        for x, y in placed[1:]:
            path += f"H{x}V{y}" if steps else f"L{x} {y}"
        self.parts.append(f'<path class="line {css}" d="{path}">{_title(title)}</path>')

    def bar(self, x: tuple[float, float], y: tuple[float, float], css: str, title: str = "") -> None:
        """A rectangle between two values on each axis."""
        (x1, y1), (x2, y2) = self.at((x[0], y[0])), self.at((x[1], y[1]))
        size = f'width="{max(x2 - x1 - 1, 0.5):.1f}" height="{abs(y1 - y2):.1f}"'
        self.parts.append(f'<rect class="{css}" x="{x1 + 0.5:.1f}" y="{min(y1, y2):.1f}" {size}>{_title(title)}</rect>')

    def dot(self, point: Point, css: str, title: str = "", radius: float = 3.5) -> None:
        """A filled circle."""
        x, y = self.at(point)
        self.parts.append(f'<circle class="{css}" cx="{x}" cy="{y}" r="{radius}">{_title(title)}</circle>')

    def text(self, point: Point, words: str, anchor: str = "middle", up: float = 0) -> None:
        """Words at a point, `up` pixels above it."""
        x, y = self.at(point)
        self.parts.append(f'<text class="note" x="{x}" y="{y - up}" text-anchor="{anchor}">{escape(words)}</text>')

    def render(self) -> Markup:
        """The SVG element."""
        frame = []
        for value, words in self.x.ticks:
            x, bottom = self.at((value, self.y.low))
            frame.append(f'<path class="grid" d="M{x} {TOP}V{bottom}"/>')
            frame.append(f'<text class="tick" x="{x}" y="{bottom + 15}" text-anchor="middle">{escape(words)}</text>')
        for value, words in self.y.ticks:
            left, y = self.at((self.x.low, value))
            frame.append(f'<path class="grid" d="M{left} {y}H{self.width - RIGHT}"/>')
            frame.append(f'<text class="tick" x="{left - 6}" y="{y + 4}" text-anchor="end">{escape(words)}</text>')
        middle_x, middle_y = (LEFT + self.width - RIGHT) / 2, (TOP + self.height - BOTTOM) / 2
        turn = f'transform="rotate(-90 11 {middle_y})"'
        for where, words in (
            (f'x="{middle_x}" y="{self.height - 6}"', self.x.title),
            (f'x="11" y="{middle_y}" {turn}', self.y.title),
        ):
            frame.append(f'<text class="axis" text-anchor="middle" {where}>{escape(words)}</text>')
        return Markup(  # every text in it was escaped
            f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{escape(self.label)}">'
            f"{''.join(frame)}{''.join(self.parts)}</svg>"
        )


def series(index: int) -> str:
    """The class of a line by its place; the fused score's is `fused`."""
    return f"s{index % COLOURS} d{index % DASHES}"


def _title(words: str) -> str:
    return f"<title>{escape(words)}</title>" if words else ""
