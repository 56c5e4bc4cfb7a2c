"""What a report shows of an analysis, before it becomes a web page or paper: words, rows, curves and pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from detectors.result import AnalysisResult, FaceResult, Heatmap
from ui import report_words as texts
from ui.overlay import overlay_jpeg
from ui.words import (
    INTERVAL,
    MAP_KINDS,
    STATUS,
    agreement_words,
    between,
    clock,
    detector_scores,
    probability,
    quality_words,
)


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

    @property
    def sum(self) -> str:
        """Name, sum and licence in one line."""
        words = texts.WEIGHTS_SUM_LICENCE if self.licence else texts.WEIGHTS_SUM
        return words.format(name=self.name, sha256=self.sha256, licence=self.licence)


def people(
    result: AnalysisResult, artifacts: Mapping[str, bytes], maps: Mapping[str, str] | None = None
) -> list[Person]:
    """Every face, as listed; pictures that are not in `artifacts` are left out. `maps`: by detector, how its heatmaps
    are made."""
    return [_person(result, face, artifacts, maps or {}) for face in result.faces]


def _person(
    result: AnalysisResult, face: FaceResult, artifacts: Mapping[str, bytes], maps: Mapping[str, str]
) -> Person:
    moving = result.media.kind == "video"
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
    span_of_score = between(face.interval)
    return Person(
        title=texts.THE_FACE if len(result.faces) == 1 else texts.PERSON.format(track=face.track),
        span=_span(face, moving),
        thumbnail=artifacts.get(face.thumbnail or ""),
        rows=rows,
        fused=probability(face.fused) if face.fused is not None else "",
        interval=INTERVAL.format(span=span_of_score) if span_of_score else "",
        times=face.times,
        threshold=result.threshold,
        agreement=agreement_words(face),
        series={
            name: sorted((moment.time, moment.score) for moment in score.frame_scores)
            for name, score in sorted(face.detectors.items())
            if len(score.frame_scores) > 1
        },
        heatmaps=_heatmaps(face, moving, artifacts),
        made={name: MAP_KINDS[maps[name]] for name in sorted(face.detectors) if maps.get(name) in MAP_KINDS},
    )


def _span(face: FaceResult, moving: bool) -> str:
    """From when to when, in how many frames, and what is wrong with the face."""
    told = numbered(face.frames, texts.FRAMES)
    if moving:
        told = texts.SPAN.format(first=clock(face.times[0]), last=clock(face.times[1]), frames=told)
    return texts.QUALITY.format(span=told, quality=", ".join(quality_words(face))) if face.quality else told


def numbered(count: int, words: tuple[str, str]) -> str:
    """A number with the words for one, or for any other."""
    one, other = words
    return (one if count == 1 else other).format(count=count)


def _heatmaps(face: FaceResult, moving: bool, artifacts: Mapping[str, bytes]) -> dict[str, list[tuple[bytes, str]]]:
    def caption(one: Heatmap) -> str:
        score = texts.SCORE.format(score=probability(one.score))
        return f"{clock(one.time)} · {score}" if moving else score

    found = {}
    for name, score in sorted(face.detectors.items()):
        pictures = [
            (overlay_jpeg(artifacts[one.crop], artifacts[one.map]), caption(one))
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
