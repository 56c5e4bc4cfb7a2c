"""What speaks for a file having been encoded anew since a camera made it: signs, none of them proof."""

from __future__ import annotations

from detectors.result import AnalysisResult
from ui.words import POOR, RE_ENCODED_NONE, RE_ENCODED_SIGNS, deciding_face

ENCODERS = ("lavf", "lavc", "x264", "x265", "ffmpeg", "handbrake", "gstreamer", "moviepy", "opencv")
"""Programs and libraries that write video; cameras do not."""
EDITORS = (
    "photoshop", "lightroom", "gimp", "snapseed", "picsart", "canva", "capcut", "premiere", "after effects", "davinci",
    "final cut", "imovie", "facetune", "faceapp", "inshot", "paint", "pixelmator", "affinity",
)  # fmt: skip


def encoding_signs(result: AnalysisResult) -> list[str]:
    """Signs in plain sentences, never empty: that there are none is said too."""
    media = result.media
    told = []
    if software := media.metadata.get("software", ""):
        lower = software.lower()
        kind = "encoder" if any(one in lower for one in ENCODERS) else "software"
        kind = "editor" if any(one in lower for one in EDITORS) else kind
        told.append(RE_ENCODED_SIGNS[kind].format(software=software))
    if media.kind != "landmarks" and not {"camera", "taken"} & set(media.metadata):
        told.append(RE_ENCODED_SIGNS["no_camera"])
    if media.kind == "image" and media.codec.lower() == "png":
        told.append(RE_ENCODED_SIGNS["screen"])
    face = deciding_face(result)
    if face is not None and face.quality_measures.get("compressed", 0.0) >= POOR:
        told.append(RE_ENCODED_SIGNS["compressed"])
    return told or [RE_ENCODED_NONE]
