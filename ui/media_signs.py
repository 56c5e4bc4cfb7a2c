"""What speaks for a file having been encoded anew since a camera made it: signs, none of them proof."""

from __future__ import annotations

from detectors.result import AnalysisResult
from ui.words import POOR, deciding_face

ENCODERS = ("lavf", "lavc", "x264", "x265", "ffmpeg", "handbrake", "gstreamer", "moviepy", "opencv")
"""Programs and libraries that write video; cameras do not."""
EDITORS = (
    "photoshop", "lightroom", "gimp", "snapseed", "picsart", "canva", "capcut", "premiere", "after effects", "davinci",
    "final cut", "imovie", "facetune", "faceapp", "inshot", "paint", "pixelmator", "affinity",
)  # fmt: skip
SIGNS = {
    "encoder": "It was written by {software}: a program encoded it, no camera.",
    "editor": "It passed through {software}, a program for editing.",
    "software": "It names the software {software}.",
    "no_camera": "It names no camera and no time of recording, as after a messenger, a download or a screenshot.",
    "compressed": "It spends few bits on a pixel: it was compressed hard, here or on its way.",
    "screen": "It is a PNG: cameras write JPEG or HEIC, screenshots and programs write PNG.",
}
NONE = "None was found. An earlier encoding can still hide behind a later one of better quality."


def encoding_signs(result: AnalysisResult) -> list[str]:
    """Signs in plain sentences, never empty: that there are none is said too."""
    media = result.media
    told = []
    if software := media.metadata.get("software", ""):
        lower = software.lower()
        kind = "encoder" if any(one in lower for one in ENCODERS) else "software"
        told.append(SIGNS["editor" if any(one in lower for one in EDITORS) else kind].format(software=software))
    if media.kind != "landmarks" and not {"camera", "taken"} & set(media.metadata):
        told.append(SIGNS["no_camera"])
    if media.kind == "image" and media.codec.lower() == "png":
        told.append(SIGNS["screen"])
    face = deciding_face(result)
    if face is not None and face.quality_measures.get("compressed", 0.0) >= POOR:
        told.append(SIGNS["compressed"])
    return told or [NONE]
