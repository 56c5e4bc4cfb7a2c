"""The reproduction sheet: a table's figures, ours beside the published ones, and for each whether it was reproduced."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from train.metrics import Estimate


class ReproduceError(ValueError):
    """A protocol, folder or weights that cannot be used; the message names it and the way out."""


@dataclass(frozen=True)
class Line:
    """One figure. `ours` is None where it could not be measured; `found` says on what; `why` is never empty for what
    was not reproduced."""

    row: str
    figure: str
    published: float | None
    ours: Estimate | None
    found: str
    reproduced: bool
    why: str = ""

    @property
    def outcome(self) -> Literal["reproduced", "not reproduced"]:
        """In words."""
        return "reproduced" if self.reproduced else "not reproduced"

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        ours = None if self.ours is None else self.ours.as_dict()
        return {**asdict(self), "ours": ours, "outcome": self.outcome}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Line:
        """The inverse of `as_dict`."""
        ours = None if values["ours"] is None else Estimate(**values["ours"])
        return cls(**{key: value for key, value in values.items() if key != "outcome"} | {"ours": ours})


@dataclass
class Sheet:
    """All figures of a table; `weights` that were used, `notes` on the data and on what differs from the authors."""

    protocol: str
    paper: str
    table: str
    command: str
    weights: str = ""
    notes: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "lines": [line.as_dict() for line in self.lines]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Sheet:
        """The inverse of `as_dict`."""
        return cls(**{**values, "lines": [Line.from_dict(line) for line in values["lines"]]})


def judged(
    row: str, figure: str, published: float | None, ours: Estimate | None, found: str, missing: str = ""
) -> Line:
    """A figure with its verdict: reproduced where the 95 % interval holds the published number, on the data of the
    published protocol. `missing` says what of that was not there."""
    if ours is None or ours.value is None:
        why = missing or (ours.note if ours and ours.note else "no scores of both classes")
        return Line(row, figure, published, ours, found, False, why)
    if published is None:
        return Line(row, figure, None, ours, found, False, "not published: ours alone")
    if ours.low is None or ours.high is None:
        return Line(
            row, figure, published, ours, found, False, missing or ours.note or "too few videos for an interval"
        )
    inside = ours.low <= published <= ours.high
    if inside and not missing:
        return Line(row, figure, published, ours, found, True)
    if inside:
        return Line(row, figure, published, ours, found, False, f"{missing}; the interval holds the published figure")
    side = "below" if ours.high < published else "above"
    reason = f"our interval lies {side} the published figure"
    return Line(row, figure, published, ours, found, False, f"{reason}; {missing}" if missing else reason)


def matched(
    row: str, figure: str, published: float, value: float, tolerance: float, n: int, found: str, shift: str = ""
) -> Line:
    """A published output of one input: reproduced within the tolerance. `shift`: what was done otherwise."""
    apart = value - published
    ours = Estimate(value, None, None, n)
    if abs(apart) <= tolerance:
        return Line(row, figure, published, ours, found, True)
    return Line(row, figure, published, ours, found, False, f"shift of {apart:+.3f}{f': {shift}' if shift else ''}")
