"""From the detectors' scores of every face to one verdict in careful words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from detectors.fusion import FusionModel, fuse, join, load_fusion
from detectors.quality import measure
from detectors.result import AnalysisResult, FaceResult, Media, Notice, Verdict
from detectors.scoring import DetectorInfo
from detectors.steps import TrackingSummary
from preprocessing.types import MediaInfo

WEAK_QUALITY = {
    "small": "small",
    "blurred": "blurred",
    "profile": "seen from the side",
    "cut_off": "cut off by the frame",
}
"""Flags under which the detectors were not measured, in words."""

LEAST_MOVE = 0.005
"""Log-odds that a detector must add to be said to move the fused score: they are shown with two digits."""
TOLD_FACTOR = 0.8
"""Where quality leaves the detectors less of their say than this, the reasons tell."""


@cache
def _shipped_fusion() -> FusionModel | None:
    return load_fusion()


def conclude(
    name: str,
    info: MediaInfo,
    summary: TrackingSummary,
    faces: list[FaceResult],
    infos: Mapping[str, DetectorInfo],
    timings: dict[str, float],
    fusion: FusionModel | None = None,
    provenance: Mapping[str, str] | None = None,
) -> AnalysisResult:
    """Fuse each face's scores, join the faces (detectors.fusion.join), and say why.

    'fake' from the threshold on and 'real' up to the fusion's lower bound, where the interval does not reach the other
    side and the most suspicious face's quality is what the detectors were measured on; 'real' also needs a complete
    input. A face that no detector could score, or other weights than the fusion was fitted with, give 'inconclusive'.
    """
    fusion = fusion or _shipped_fusion()
    warnings = [Notice(code="input", message=text) for text in summary.warnings]
    pixels = info.width * info.height * max(summary.frames, 1)
    factors = {face.track: _fuse_face(face, infos, fusion, info, pixels) for face in faces}
    warnings += _detector_notices(faces) + _credential_notices(provenance or {})
    scored = [face for face in faces if face.fused is not None]
    decisive = max(scored, key=lambda face: face.fused or 0.0, default=None)
    threshold = fusion.threshold if fusion else 0.5
    joined = _joined(scored)
    verdict, reasons = _verdict(faces, decisive, joined, summary.incomplete, fusion)
    if decisive and factors[decisive.track] < TOLD_FACTOR:
        share = f"{factors[decisive.track]:.0%}"
        reasons.append(f"The face's size, sharpness, compression and length leave {share} of the detectors' say.")
    media = Media(
        name=name,
        sha256=info.sha256,
        kind=info.kind,
        container=info.container,
        codec=info.codec,
        width=info.width,
        height=info.height,
        fps=info.fps,
        duration_s=info.duration_s,
        frames_analysed=summary.frames,
        metadata=info.metadata,
    )
    return AnalysisResult(
        media=media,
        verdict=verdict,
        score=joined[0] if joined else None,
        interval=joined[1] if joined else None,
        threshold=threshold,
        reasons=reasons,
        faces=faces,
        warnings=warnings,
        incomplete=summary.incomplete,
        provenance=dict(provenance or {"status": "not checked"}),
        versions=versions(),
        timings={key: round(value, 4) for key, value in timings.items()},
    )


Joined = tuple[float, tuple[float, float]]
"""A file's score and its interval."""


def _fuse_face(
    face: FaceResult, infos: Mapping[str, DetectorInfo], fusion: FusionModel | None, info: MediaInfo, pixels: int
) -> float:
    """Fill in the face's fused score; what its quality leaves of the detectors' say."""
    face.quality_measures = measure(face, info.kind, pixels, info.size_bytes)
    if fusion is None:
        return 1.0
    scores = {
        name: score.score
        for name, score in face.detectors.items()
        # The stacker knows the weights that it was fitted with, no others.
        if score.status == "ok" and score.score is not None and fusion.for_weights.get(name) == infos[name].sha256
    }
    fused = fuse(fusion, scores, face.quality_measures)
    if fused is None:
        return 1.0
    face.fused, face.interval, face.contributions = fused.score, fused.interval, fused.contributions
    return fused.factor


def _joined(scored: list[FaceResult]) -> Joined | None:
    if not scored:
        return None
    intervals = [face.interval for face in scored if face.interval is not None]
    score = join([face.fused for face in scored if face.fused is not None])
    return score, (join([low for low, _ in intervals]), join([high for _, high in intervals]))


def _detector_notices(faces: list[FaceResult]) -> list[Notice]:
    """One notice for each distinct way in which a detector gave no answer that counts."""
    seen: dict[str, Notice] = {}
    for face in faces:
        for name, score in face.detectors.items():
            if score.status in ("failed", "timeout", "out_of_domain"):
                text = f"{name}: {score.reason}"
                seen.setdefault(text, Notice(code=f"detector_{score.status}", message=text))
    return list(seen.values())


def _credential_notices(provenance: Mapping[str, str]) -> list[Notice]:
    """What content credentials say against the media being a camera's; it does not enter the score."""
    told = []
    if provenance.get("generated") and provenance["status"] in ("valid", "trusted"):
        told.append("its content credentials say that a program made it up, in whole or in part")
    if provenance.get("status") == "invalid":
        told.append("it was changed after its content credentials were signed, or they are damaged")
    return [Notice(code="credentials", message=text) for text in told]


def _verdict(
    faces: list[FaceResult],
    decisive: FaceResult | None,
    joined: Joined | None,
    incomplete: bool,
    fusion: FusionModel | None,
) -> tuple[Verdict, list[str]]:
    if not faces:
        return "no_face", ["No face was found, so nothing can be said: this is not a finding that the media is real."]
    if decisive is None or joined is None or fusion is None:
        why = "no detector gave a calibrated score for any face" if fusion else "no fusion was fitted for these weights"
        return "inconclusive", [f"There is no verdict: {why}."]
    score, (low, high) = joined
    reasons = _evidence(decisive, len(faces), score)
    weak = [words for flag, words in WEAK_QUALITY.items() if flag in decisive.quality]
    if weak:
        reasons.append(f"The face is {' and '.join(weak)}; scores of such faces are less reliable.")
    lean = fusion.decide(score, (low, high))
    if lean == "inconclusive":
        return lean, [_undecided(score, low, high, fusion), *reasons]
    if weak:
        return "inconclusive", [f"The score points to {lean}, but a face of this quality carries no verdict.", *reasons]
    if lean == "fake":
        return "fake", reasons
    if incomplete:
        why = "part of the input could not be analysed"
        return "inconclusive", [f"The score points to real, but no all-clear is given: {why}.", *reasons]
    return "real", [*reasons, fusion.blind_to] if fusion.blind_to else reasons


def _undecided(score: float, low: float, high: float, fusion: FusionModel) -> str:
    if fusion.real_below < score < fusion.threshold:
        bounds = (fusion.threshold, fusion.real_below) if fusion.real_below > 0 else (fusion.threshold,)
        digits = 3 if _said(score) in map(_said, bounds) else 2  # not "0.98 does not reach 0.98"
        said, begins, *calm = (_said(value, digits) for value in (score, *bounds))
        if calm:
            return f"The score {said} lies between the verdicts: real is up to {calm[0]}, fake from {begins}."
        return f"The score {said} does not reach {begins}, where verdicts begin."
    other = "real" if score >= fusion.threshold else "fake"
    span = f"{_said(low)} to {_said(high)}"
    return f"The interval {span} reaches from one side to {other}: the evidence does not decide."


def _said(value: float, digits: int = 2) -> str:
    """Never 0.00 or 1.00: nothing here is that sure."""
    least = 10**-digits
    return f"{min(max(value, least), 1 - least):.{digits}f}"


def _evidence(face: FaceResult, count: int, score: float) -> list[str]:
    """Who says what of the most suspicious face, strongest contribution first."""
    reasons = []
    if count > 1:
        reasons.append(
            f"Person {face.track} is the most suspicious of {count}, with {_said(face.fused or 0.0)}; "
            f"among {count} a high score by chance is likelier, so the file's is {_said(score)}."
        )
    for name, value in sorted(face.contributions.items(), key=lambda item: -abs(item[1])):
        if abs(value) >= LEAST_MOVE:
            direction = "towards fake" if value > 0 else "towards real"
            said = _said(face.detectors[name].score or 0.0)
            reasons.append(f"{name} gives {said} and moves the fused score {direction}.")
    apart = [name for name, value in sorted(face.contributions.items()) if abs(value) < LEAST_MOVE]
    if apart:
        told = ", ".join(f"{name} {_said(face.detectors[name].score or 0.0)}" for name in apart)
        reasons.append(f"Shown, and hardly counted in the fused score: {told}.")
    silent = [name for name, found in face.detectors.items() if found.status != "ok"]
    if silent:
        reasons.append(f"No say: {', '.join(f'{name} ({face.detectors[name].reason})' for name in silent)}.")
    return reasons


@cache
def _versions() -> tuple[tuple[str, str], ...]:
    from importlib.metadata import version

    wanted = {
        "unmask": "unmask-forensics",
        "torch": "torch",
        "opencv": "opencv-python-headless",
        "av": "av",
        "dlib": "dlib-bin",
    }
    return tuple((name, version(package)) for name, package in wanted.items())


def versions() -> dict[str, str]:
    """Versions of unmask and of the libraries on which a score depends."""
    return dict(_versions())
