"""From the detectors' scores of every face to one verdict in careful words."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from detectors.fusion import FusionModel, fuse, load_fusion
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

MIN_LEAN = 0.1
"""A score closer to the threshold than this carries no verdict, however narrow its interval: the interval knows the
spread of the fit, not that of media unlike those of the fit."""


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
) -> AnalysisResult:
    """Fuse each face's scores, let the most suspicious face decide, and say why.

    'fake' or 'real' only where score and interval lie clearly on that side of the threshold and the face's quality is
    what the detectors were measured on; 'real' also needs a complete input. A face that no detector could score, or
    other weights than the fusion was fitted with, give 'inconclusive'.
    """
    fusion = fusion or _shipped_fusion()
    warnings = [Notice(code="input", message=text) for text in summary.warnings]
    for face in faces:
        _fuse_face(face, infos, fusion)
    warnings += _detector_notices(faces)
    scored = [face for face in faces if face.fused is not None]
    decisive = max(scored, key=lambda face: face.fused or 0.0, default=None)
    threshold = fusion.threshold if fusion else 0.5
    verdict, reasons = _verdict(faces, decisive, threshold, summary.incomplete, fusion)
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
    )
    return AnalysisResult(
        media=media,
        verdict=verdict,
        score=decisive.fused if decisive else None,
        interval=decisive.interval if decisive else None,
        threshold=threshold,
        reasons=reasons,
        faces=faces,
        warnings=warnings,
        incomplete=summary.incomplete,
        versions=versions(),
        timings={key: round(value, 4) for key, value in timings.items()},
    )


def _fuse_face(face: FaceResult, infos: Mapping[str, DetectorInfo], fusion: FusionModel | None) -> None:
    if fusion is None:
        return
    scores = {
        name: score.score
        for name, score in face.detectors.items()
        # The stacker knows the weights that it was fitted with, no others.
        if score.status == "ok" and score.score is not None and fusion.for_weights.get(name) == infos[name].sha256
    }
    fused = fuse(fusion, scores)
    if fused is not None:
        face.fused, face.interval, face.contributions = fused.score, fused.interval, fused.contributions


def _detector_notices(faces: list[FaceResult]) -> list[Notice]:
    """One notice for each distinct way in which a detector gave no answer that counts."""
    seen: dict[str, Notice] = {}
    for face in faces:
        for name, score in face.detectors.items():
            if score.status in ("failed", "timeout", "out_of_domain"):
                text = f"{name}: {score.reason}"
                seen.setdefault(text, Notice(code=f"detector_{score.status}", message=text))
    return list(seen.values())


def _verdict(
    faces: list[FaceResult], decisive: FaceResult | None, threshold: float, incomplete: bool, fusion: FusionModel | None
) -> tuple[Verdict, list[str]]:
    if not faces:
        return "no_face", ["No face was found, so nothing can be said: this is not a finding that the media is real."]
    if decisive is None or decisive.fused is None or decisive.interval is None:
        why = "no detector gave a calibrated score for any face" if fusion else "no fusion was fitted for these weights"
        return "inconclusive", [f"There is no verdict: {why}."]
    low, high = decisive.interval
    reasons = _evidence(decisive, len(faces))
    weak = [words for flag, words in WEAK_QUALITY.items() if flag in decisive.quality]
    if weak:
        reasons.append(f"The face is {' and '.join(weak)}; scores of such faces are less reliable.")
    fake = low >= threshold and decisive.fused >= threshold + MIN_LEAN
    real = high < threshold and decisive.fused <= threshold - MIN_LEAN
    if (fake or real) and weak:
        lean = "fake" if fake else "real"
        return "inconclusive", [f"The score points to {lean}, but a face of this quality carries no verdict.", *reasons]
    if fake:
        return "fake", reasons
    if real and incomplete:
        why = "part of the input could not be analysed"
        return "inconclusive", [f"The score points to real, but no all-clear is given: {why}.", *reasons]
    if real:
        return "real", [*reasons, fusion.blind_to] if fusion and fusion.blind_to else reasons
    if low >= threshold or high < threshold:
        return "inconclusive", [f"The score {decisive.fused:.2f} is too close to {threshold:.2f} to decide.", *reasons]
    return "inconclusive", [
        f"The interval {low:.2f} to {high:.2f} contains the threshold {threshold:.2f}: the evidence does not decide.",
        *reasons,
    ]


def _evidence(face: FaceResult, count: int) -> list[str]:
    """Who says what of the deciding face, strongest contribution first."""
    reasons = []
    if count > 1:
        reasons.append(f"Person {face.track} is the most suspicious of {count} and decides.")
    for name, value in sorted(face.contributions.items(), key=lambda item: -abs(item[1])):
        score = face.detectors[name].score or 0.0
        direction = "towards fake" if value > 0 else "towards real"
        reasons.append(f"{name} gives {score:.2f} and moves the fused score {direction}.")
    silent = [name for name, score in face.detectors.items() if score.status != "ok"]
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
