"""What a report shows of an analysis, before it becomes a web page or paper: words, rows, curves and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from detectors.result import AnalysisResult, FaceResult
from ui.overlay import overlay_jpeg
from ui.words import (
    MAP_KINDS,
    STATUS,
    agreement_words,
    between,
    clock,
    detector_scores,
    probability,
    quality_words,
)

HOW_TO_READ = (
    "A score is the probability that a face is manipulated, 0 real to 1 fake, as calibrated on the data that each"
    " detector's card names. It is evidence, not proof: detectors miss what they were not trained for, and are wrong on"
    " some real faces.",
    "“No sign of manipulation found” and “no face found” are not findings that the media is real. Content credentials"
    " and what a file says of its making are shown beside the score and do not enter it.",
    "A heatmap shows where in the face a detector found what speaks for a manipulation; brighter is more. Maps that a"
    " method makes itself are called its own; of LRNet the landmarks that move its score are drawn; the others are by"
    " Grad-CAM, which is coarse and no proof that the marked pixels were changed.",
    "The sha256 sums name the exact bytes that were analysed and the exact weights: with the same files and weights the"
    " same version gives the same scores.",
)
VERIFY = "To run it again, with this report and the files at hand:"


@dataclass(frozen=True)
class Row:
    """What one detector says of a person. `score` 0..1 or None; `moves`: signed log-odds, "" where it has no say."""

    name: str
    score: float | None
    status: str
    moves: str
    weights: str


@dataclass(frozen=True)
class Person:
    """One face of a result. `series`: by detector (seconds, score), only where there are two moments or more;
    `agreement`: how far the detectors agree; `heatmaps`: by detector (JPEG, caption); `made`: how those are made, in
    words, where that is known."""

    title: str
    span: str
    thumbnail: bytes | None
    rows: list[Row]
    fused: str
    interval: str
    times: tuple[float, float]
    threshold: float
    agreement: str = ""
    series: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    heatmaps: dict[str, list[tuple[bytes, str]]] = field(default_factory=dict)
    made: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Weights:
    """The weights that a detector used. `sha256` in full where their card is here, else its first 12 digits."""

    detector: str
    name: str
    sha256: str
    licence: str = ""
    limits: str = ""


def people(
    result: AnalysisResult, artifacts: Mapping[str, bytes], maps: Mapping[str, str] | None = None
) -> list[Person]:
    """Every face, as listed; pictures that are not in `artifacts` are left out. `maps`: by detector, how its heatmaps
    are made."""
    return [_person(result, face, artifacts, maps or {}) for face in result.faces]


def _person(
    result: AnalysisResult, face: FaceResult, artifacts: Mapping[str, bytes], maps: Mapping[str, str]
) -> Person:
    rows = [
        Row(
            name,
            score.score,
            f"{STATUS[score.status]}: {score.reason}" if score.status != "ok" else "",
            f"{face.contributions[name]:+.2f}" if name in face.contributions else "",
            score.weights,
        )
        for name, score in sorted(face.detectors.items())
    ]
    span = f"{clock(face.times[0])} to {clock(face.times[1])}, " if result.media.kind == "video" else ""
    quality = f"; {', '.join(quality_words(face))}" if face.quality else ""
    span_of_score = between(face.interval)
    return Person(
        title="The face" if len(result.faces) == 1 else f"Person {face.track}",
        span=f"{span}{face.frames} frame{'s' if face.frames != 1 else ''}{quality}",
        thumbnail=artifacts.get(face.thumbnail or ""),
        rows=rows,
        fused=probability(face.fused) if face.fused is not None else "",
        interval=f"interval {span_of_score}" if span_of_score else "",
        times=face.times,
        threshold=result.threshold,
        agreement=agreement_words(face),
        series={
            name: sorted((moment.time, moment.score) for moment in score.frame_scores)
            for name, score in sorted(face.detectors.items())
            if len(score.frame_scores) > 1
        },
        heatmaps=_heatmaps(face, result.media.kind == "video", artifacts),
        made={name: MAP_KINDS[maps[name]] for name in sorted(face.detectors) if maps.get(name) in MAP_KINDS},
    )


def _heatmaps(face: FaceResult, moving: bool, artifacts: Mapping[str, bytes]) -> dict[str, list[tuple[bytes, str]]]:
    def when(time: float) -> str:
        return f"{clock(time)} · " if moving else ""

    found = {}
    for name, score in sorted(face.detectors.items()):
        pictures = [
            (overlay_jpeg(artifacts[one.crop], artifacts[one.map]), f"{when(one.time)}score {probability(one.score)}")
            for one in sorted(score.heatmaps, key=lambda one: one.time)
            if one.crop in artifacts and one.map in artifacts
        ]
        if pictures:
            found[name] = pictures
    return found


def weights_used(result: AnalysisResult) -> list[Weights]:
    """The weights of every detector that the result speaks of, with what their cards say of their limits."""
    from detectors.store import located

    cards = {card.sha256[:12]: card for card in (one.card for one in located())}
    found = []
    for detector, score in sorted(detector_scores(result).items()):
        name, _, digits = score.weights.partition("@")
        card = cards.get(digits)
        if card is not None:
            found.append(Weights(detector, name, card.sha256, card.licence, card.limits))
        elif name:
            found.append(Weights(detector, name, digits))
    return found
