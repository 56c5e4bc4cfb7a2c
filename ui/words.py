"""The careful words and the colours of a verdict, the same on the command line and on every page."""

from __future__ import annotations

import os
from dataclasses import dataclass

from detectors.result import AnalysisResult, DetectorScore, FaceResult, Verdict


@dataclass(frozen=True)
class Wording:
    """How a verdict is said. `colour` is #rrggbb, readable on light and dark; `terminal` its nearest colour of rich."""

    title: str
    meaning: str
    colour: str
    terminal: str
    sign: str


VERDICTS: dict[Verdict, Wording] = {
    "fake": Wording(
        "Likely manipulated",
        "The detectors together find signs of manipulation in at least one face.",
        "#e5484d",
        "red",
        "▲",
    ),
    "real": Wording(
        "No sign of manipulation found",
        "The detectors find none of the traces that they were trained for. That is no proof that the media is real.",
        "#1a9e77",
        "green",
        "●",
    ),
    "inconclusive": Wording(
        "Inconclusive",
        "The evidence does not carry a verdict either way.",
        "#d98e04",
        "yellow",
        "◆",
    ),
    "no_face": Wording(
        "No face found",
        "There was no face to look at, so nothing can be said. This is not a finding that the media is real.",
        "#7b8794",
        "bright_black",
        "○",
    ),
}

FAILED = Wording("Not analysed", "The input could not be analysed.", "#7b8794", "bright_black", "✕")

QUALITY = {
    "small": "small",
    "blurred": "blurred",
    "rotated": "rotated",
    "profile": "seen from the side",
    "cut_off": "cut off by the frame",
    "uncertain": "uncertain detection",
}

STATUS = {
    "ok": "",
    "failed": "failed",
    "timeout": "overran its deadline",
    "not_applicable": "does not apply",
    "out_of_domain": "outside its domain",
}

STAGES = {
    "queued": "Waiting for its turn",
    "tracking": "Finding and following faces",
    "detectors": "Asking the detectors",
    "fusion": "Weighing the evidence",
    "done": "Done",
}
"""What happens in each stage that the pipeline reports, in their order; "starting" is a moment of the first."""


def probability(value: float | None) -> str:
    """0.973 -> "0.97"; "–" where there is none. Never 0.00 or 1.00: no detector is that sure."""
    return "–" if value is None else f"{min(max(value, 0.01), 0.99):.2f}"


def percent(value: float) -> str:
    """A probability as a whole percentage, 1 % to 99 %."""
    return f"{round(min(max(value, 0.01), 0.99) * 100)} %"


def score_with_interval(result: AnalysisResult) -> str:
    """ "0.93 (0.81 to 0.97)", or "–"."""
    if result.score is None or result.interval is None:
        return probability(result.score)
    low, high = result.interval
    return f"{probability(result.score)} ({probability(low)} to {probability(high)})"


def deciding_face(result: AnalysisResult) -> FaceResult | None:
    """The face that decided the verdict; the first where none has a fused score, None without faces."""
    scored = [face for face in result.faces if face.fused is not None]
    return max(scored, key=lambda face: face.fused or 0.0) if scored else next(iter(result.faces), None)


def detector_scores(result: AnalysisResult) -> dict[str, DetectorScore]:
    """Each detector's highest score over the faces: the most suspicious face decides."""
    best: dict[str, DetectorScore] = {}
    for face in result.faces:
        for name, found in face.detectors.items():
            if name not in best or (found.score or -1.0) > (best[name].score or -1.0):
                best[name] = found
    return best


def quality_words(face: FaceResult) -> list[str]:
    """The face's quality flags in words."""
    return [QUALITY.get(flag, flag) for flag in face.quality]


def clock(seconds: float) -> str:
    """75.2 -> "1:15.2", 3.4 -> "0:03.4"."""
    minutes, rest = divmod(round(max(seconds, 0.0), 1), 60)
    return f"{int(minutes)}:{rest:04.1f}"


def size(count: int) -> str:
    """A number of bytes in the largest unit that keeps it at 1 or more."""
    value = float(count)
    for unit in ("bytes", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def printable(name: str | os.PathLike[str]) -> str:
    """A file name that is safe to show: undecodable bytes and control characters become a replacement character."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
