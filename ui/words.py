"""The careful words and the colours of a verdict, the same on the command line and on every page."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
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
        "#c47f03",
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


SPAN = "{low} to {high}"


def between(interval: tuple[float, float] | None, said: Callable[[float], str] = probability) -> str:
    """ "0.81 to 0.97", as `said` says each; "" where both ends read alike: "0.99 to 0.99" would sound sure."""
    low, high = map(said, interval) if interval is not None else ("", "")
    return SPAN.format(low=low, high=high) if low != high else ""


def score_with_interval(result: AnalysisResult) -> str:
    """ "0.93 (0.81 to 0.97)", or "–"."""
    span = between(result.interval) if result.score is not None else ""
    return probability(result.score) + (f" ({span})" if span else "")


SCALE = "A score is a probability of manipulation, 0 real to 1 fake; in brackets its interval."
"""Below a table of scores."""

CONTAINERS = {
    "mov": "MP4 or QuickTime",
    "mp4": "MP4 or QuickTime",
    "matroska": "Matroska or WebM",
    "webm": "Matroska or WebM",
    "mpegts": "MPEG-TS",
    "mpeg": "MPEG",
    "avi": "AVI",
    "flv": "FLV",
    "asf": "ASF (WMV)",
    "ogg": "Ogg",
}
"""By FFmpeg's first name of a container; MP4 and QuickTime have one form, so have Matroska and WebM."""
CODECS = {"h264": "H.264", "hevc": "H.265", "vp8": "VP8", "vp9": "VP9", "av1": "AV1", "mpeg4": "MPEG-4", "png": "PNG",
          "mjpeg": "JPEG", "jpeg": "JPEG", "webp": "WebP", "avif": "AVIF", "heif": "HEIF"}  # fmt: skip


def container_words(container: str) -> str:
    """ "mov,mp4,m4a,3gp" -> "MP4 or QuickTime"; what is not known is said as it is."""
    first = container.split(",")[0]
    return CONTAINERS.get(first) or CODECS.get(first) or container


def codec_words(codec: str) -> str:
    """ "h264" -> "H.264"."""
    return CODECS.get(codec.lower(), codec)


REFERENCES = {
    "real": "real portrait",
    "sbi": "self-blend",
    "mouth": "changed mouth",
    "resolution": "lowered resolution",
    "swap_triangles": "face swap",
    "swap_lowres": "low-resolution swap",
    "reenact_face": "reenactment",
    "rendered_face": "face drawn by a network",
    "rendered_whole": "picture drawn by a network",
}
"""The kinds of reference faces (detectors.gallery)."""
THIS_FACE = "this face"
NEAREST = (
    "Nearest of the references: {kinds}. The nearest is {distance:.1f} times as far as a reference is from its own "
    "nearest; far beyond 1, the face is unlike all of them."
)

TOGETHER = "together"
"""The row of the fused score."""
REAL, FAKE = "real", "fake"
AXIS_REAL, AXIS_FAKE = "0 real", "1 fake"
AXIS_NO_SCORE = "no score"
AXIS_TOGETHER_SPAN = "together {score}, interval {low} to {high}"
AXIS_LOG_ODDS = "{name} {value:+.2f} log-odds"
AXIS_OF_FILE = "{file}: {score}"
TO_REAL, TO_FAKE = "to real", "to fake"
SECONDS = "seconds"
TIME_POINT = "{name} {score} at {clock}, frame {frame}"
LANDMARKS_FORMS = ("as found", "after calibration")
PIXELS_OF = "pixels of {side}"
"""A movement in the square of that side."""

MAP_KINDS = {
    "native": "its own map",
    "landmarks": "the landmarks that move its score",
    "grad-cam": "Grad-CAM: coarse, and no proof that the marked pixels were changed",
}
"""How a detector's heatmap is made, by detectors.explain.map_kind."""
DRAWN_SCORE = "score {score} (1 = fake)"
DRAWN_PERSON = "person {track}: {score} (1 = fake)"
"""Drawn into the media: the drawing has no letters but ASCII."""
RE_ENCODED = "Signs of re-encoding"
RE_ENCODED_SIGNS = {
    "encoder": "It was written by {software}: a program encoded it, no camera.",
    "editor": "It passed through {software}, a program for editing.",
    "software": "It names the software {software}.",
    "no_camera": "It names no camera and no time of recording, as after a messenger, a download or a screenshot.",
    "compressed": "It spends few bits on a pixel: it was compressed hard, here or on its way.",
    "screen": "It is a PNG: cameras write JPEG or HEIC, screenshots and programs write PNG.",
}
RE_ENCODED_NONE = "None was found. An earlier encoding can still hide behind a later one of better quality."

PROBABILITY = "probability of manipulation"
INTERVAL = "interval {span}"
GAUGE_ALT = "score {score}, 0 real to 1 fake, threshold {threshold}"
GAUGE_ALT_INTERVAL = "score {score}, 0 real to 1 fake, interval {span}, threshold {threshold}"
DECIDING_FACE = "The deciding face: {quality}."
FACTS = {
    "kind": "Kind",
    "size": "Size",
    "length": "Length",
    "frames": "Frames looked at",
    "people": "People",
    "took": "Analysed in",
    "sha256": "sha256",
    "credentials": "Content credentials",
}
"""What a card says of the media and of the analysis."""
MEDIA_KINDS = {"image": "image", "video": "video", "landmarks": "landmarks"}
"""What a file can hold."""
FACT_KIND = "{kind}, {container}"
FACT_KIND_CODEC = "{kind}, {container} ({codec})"
FACT_SIZE = "{width} × {height} pixels"
FACT_LENGTH_RATE = "{length} at {rate:.4g} frames a second"
FACT_TOOK = "{seconds:.1f} s"
METADATA = {
    "camera": "Camera",
    "software": "Software",
    "taken": "Taken",
    "author": "Author",
    "copyright": "Copyright",
    "description": "Description",
    "location": "Location",
}
"""What a file says of itself, by the names of preprocessing.media.metadata."""
BY_THE_FILE = "{name}, by the file"


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


CREDENTIALS = {
    "none": "none in the file",
    "invalid": "invalid: changed after signing, or damaged",
    "valid": "valid; whether the signer can be trusted is not known here",
    "trusted": "valid, by a signer on this service's list",
    "unreadable": "there, but not readable",
    "not checked": "not checked",
}


CREDENTIAL_DETAILS = {"signer": "signed by {name}", "made_with": "made with {name}"}
CREDENTIAL_QUESTIONS = ("present", "valid", "trusted")
CREDENTIAL_ANSWERS = {
    "none": ("no", "–", "–"),
    "invalid": ("yes", "no", "no"),
    "valid": ("yes", "yes", "not known"),
    "trusted": ("yes", "yes", "yes"),
    "unreadable": ("yes", "not known", "not known"),
    "not checked": ("not checked", "–", "–"),
}
"""By what was found: the answers to the questions that a reader has of content credentials."""
ANSWERS = {"yes": "yes", "no": "no", "not known": "not known", "not checked": "not checked", "–": "–"}
"""How these are said."""


def credentials_words(provenance: Mapping[str, str]) -> str:
    """Content credentials (C2PA) in one line."""
    words = CREDENTIALS.get(provenance.get("status", "not checked"), provenance.get("status", ""))
    more = [said.format(name=provenance[key]) for key, said in CREDENTIAL_DETAILS.items() if provenance.get(key)]
    return "; ".join([words, *more])


POOR = 0.5
"""From this measure of detectors.quality on a reader is warned."""
MEASURES = {
    "small": "The face is small: each of its pixels is enlarged before a detector sees it, and fine traces are gone.",
    "compressed": "The file is heavily compressed: fine traces of a manipulation, or of none, may be lost.",
    "short": "The face is there for few frames only: detectors that look at movement have little to go by.",
}
"""What a poor measure of the face means; the others are flags already (QUALITY)."""


def measure_words(face: FaceResult) -> list[str]:
    """Warnings about the face's measures, in sentences. A still picture is no short track."""
    return [
        text
        for name, text in MEASURES.items()
        if face.quality_measures.get(name, 0.0) >= POOR
        and not (name == "short" and face.frames == 1)
        and not (name == "small" and "small" in face.quality)
    ]


AGREE = "The {count} detectors with a say all lean to {side}."
DISAGREE = "{fake} of {count} detectors with a say lean to fake, {real} to real; their scores run from {low} to {high}."
ALONE = "Only {name} has a say: nobody confirms or contradicts it."


def agreement_words(face: FaceResult) -> str:
    """How far the detectors that have a say agree on the face; empty where there are none."""
    said = {name: one.score for name, one in face.detectors.items() if one.status == "ok" and one.score is not None}
    if not said:
        return ""
    if len(said) == 1:
        return ALONE.format(name=next(iter(said)))
    fake = sum(score >= 0.5 for score in said.values())
    if fake in (0, len(said)):
        return AGREE.format(count=len(said), side=FAKE if fake else REAL)
    low, high = probability(min(said.values())), probability(max(said.values()))
    return DISAGREE.format(fake=fake, count=len(said), real=len(said) - fake, low=low, high=high)


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
