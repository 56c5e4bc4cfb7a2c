"""Figures of scores as HTML: a row for each detector on one axis. They need nothing but the result, run no script and
keep their letters' size on a phone; style.css gives them their look.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from detectors.result import AnalysisResult, DetectorScore, FaceResult
from ui.palette import colours, detector_names
from ui.words import (
    AXIS_FAKE,
    AXIS_LOG_ODDS,
    AXIS_NO_SCORE,
    AXIS_OF_FILE,
    AXIS_REAL,
    AXIS_TOGETHER_SPAN,
    STATUS,
    TO_FAKE,
    TO_REAL,
    TOGETHER,
    VERDICTS,
    deciding_face,
    probability,
)

NEAR = 0.09
"""Of the axis: about half the width of a number on a phone."""
FORMS = (("hollow", "○"), ("", "●"), ("diamond hollow", "◇"), ("diamond", "◆"))
"""Of files side by side: the dot's classes and the sign that stands for it."""
Tick = tuple[float, str]
PROBABILITY: tuple[Tick, ...] = ((0.0, AXIS_REAL), (0.5, "0.5"), (1.0, AXIS_FAKE))
MIDDLE = "var(--um-ink)"


def scores_axis(result: AnalysisResult, face: FaceResult, alt: str) -> str:
    """Each detector's score of one face on the calibrated axis from real (0) to fake (1), below the fused score with
    its interval; dotted the threshold. Detectors without a score are listed with the reason, last."""
    tint = colours(detector_names(result))
    rows = []
    if face.fused is not None and face.interval is not None:
        low, high = face.interval
        colour = VERDICTS[result.verdict].colour
        said = AXIS_TOGETHER_SPAN.format(
            score=probability(face.fused), low=probability(low), high=probability(high)
        )  # fmt: skip
        drawn = _bar(low, high, colour, "band") + _dot(face.fused, colour, "diamond together")
        number = _number(face.fused, probability(face.fused), result.threshold)
        rows.append(_row(TOGETHER, drawn + number, said, "together"))
    for name in sorted(face.detectors, key=lambda one: -(face.detectors[one].score or -1.0)):
        rows.append(_score_row(name, face.detectors[name], tint[name], result.threshold))
    return _figure(rows, PROBABILITY, alt, result.threshold)


def _score_row(name: str, score: DetectorScore, colour: str, threshold: float) -> str:
    if score.score is None:
        why = STATUS[score.status] or AXIS_NO_SCORE
        return _row(name, f'<span class="um-axis-none">{escape(why)}</span>', score.reason)
    counts = score.status == "ok"
    drawn = _bar(0.0, score.score, colour, "" if counts else "faint")
    drawn += _dot(score.score, colour, "" if counts else "hollow")
    status = "" if counts else f"\n{STATUS[score.status]}: {score.reason}"
    said = f"{name} {probability(score.score)}\n{score.weights}{status}"
    return _row(name, drawn + _number(score.score, probability(score.score), threshold), said)


def contributions_axis(face: FaceResult, alt: str) -> str:
    """How far each detector moves the fused log-odds, to real or to fake; empty where nothing was fused."""
    if not face.contributions:
        return ""
    reach = max(1.0, *(abs(value) for value in face.contributions.values())) * 1.35
    rows = []
    for name, value in sorted(face.contributions.items(), key=lambda item: -abs(item[1])):
        end = 0.5 + value / reach / 2
        colour = VERDICTS["fake" if value > 0 else "real"].colour
        drawn = _bar(min(end, 0.5), max(end, 0.5), colour, "thick")
        side = "before" if value < 0 else "after"
        said = AXIS_LOG_ODDS.format(name=name, value=value)
        rows.append(_row(name, drawn + _number(end, f"{value:+.2f}" if value else "0", side=side), said))
    ticks = ((0.0, TO_REAL), (0.5, "0"), (1.0, TO_FAKE))
    return _figure(rows, ticks, alt)


def compared_axis(results: Sequence[AnalysisResult], names: Sequence[str], alt: str) -> str:
    """Each detector's score of up to four files' deciding faces, one row each, told apart by the form of the dot; and
    the fused scores. `names` of the files, in their order; empty where no file has a score."""
    found = []
    for result in results:
        face = deciding_face(result)
        scores = {name: one.score for name, one in (face.detectors if face else {}).items() if one.score is not None}
        found.append(scores | ({TOGETHER: result.score} if result.score is not None else {}))
    everyone = {name for scores in found for name in scores}
    order = sorted(everyone - {TOGETHER}, key=lambda name: -found[-1].get(name, -1.0))
    tint = colours(order) | {TOGETHER: MIDDLE}
    rows = []
    for name in [*([TOGETHER] if TOGETHER in everyone else []), *order]:
        there = [scores[name] for scores in found if name in scores]
        drawn = _bar(min(there), max(there), tint[name], "faint") if len(there) > 1 else ""
        said = []
        for scores, title, (form, _) in zip(found, names, FORMS[: len(found)], strict=True):
            said.append(AXIS_OF_FILE.format(file=title, score=probability(scores.get(name))))
            if name in scores:
                drawn += _dot(scores[name], tint[name], form)
        rows.append(_row(name, drawn, "\n".join([name, *said]), "together" if name == TOGETHER else ""))
    if not rows:
        return ""
    told = zip(names, FORMS[: len(found)], strict=True)
    legend = "".join(f"<li>{sign} {escape(title)}</li>" for title, (_, sign) in told)
    return f'<ul class="um-axis-files">{legend}</ul>' + _figure(rows, PROBABILITY, alt)


def _figure(rows: Sequence[str], ticks: Sequence[Tick], alt: str, threshold: float | None = None) -> str:
    places = {0.0: "first", 1.0: "last"}
    marks = "".join(
        f'<span class="{places.get(at, "")}" style="left:{at:.0%}">{escape(words)}</span>' for at, words in ticks
    )
    line = f' style="--um-threshold:{threshold:.2%}"' if threshold is not None else ""
    scale = f'<div class="um-axis-row um-axis-ticks"><span></span><div>{marks}</div></div>'
    return f'<div class="um-axis" role="img" aria-label="{escape(alt)}"{line}>{"".join(rows)}{scale}</div>'


def _row(name: str, drawn: str, hover: str = "", kind: str = "") -> str:
    told = f' title="{escape(hover)}"' if hover else ""
    return (
        f'<div class="um-axis-row {kind}"{told}><span class="um-axis-name">{escape(name)}</span>'
        f'<div class="um-axis-track">{drawn}</div></div>'
    )


def _bar(low: float, high: float, colour: str, kind: str) -> str:
    size = f"left:{low:.2%};width:{max(high - low, 0.004):.2%};--um-hue:{colour}"
    return f'<i class="um-axis-bar {kind}" style="{size}"></i>'


def _dot(at: float, colour: str, kind: str) -> str:
    return f'<i class="um-axis-dot {kind}" style="left:{at:.2%};--um-hue:{colour}"></i>'


def _number(at: float, words: str, threshold: float | None = None, side: str = "") -> str:
    """Above its dot, or beside the threshold's line where that would run through it."""
    if threshold is not None and abs(at - threshold) <= NEAR:
        before = min(at, threshold) > 2 * NEAR
        at, side = (min(at, threshold), "before") if before else (max(at, threshold), "after")
        side += " above"
    return f'<b class="um-axis-number {side or "above"}" style="left:{at:.2%}">{escape(words)}</b>'
