"""Calibration and fusion are fitted on tracks' logits; here they are read from the faces of an evaluation's rows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from detectors.fusion import log_odds

Line = tuple[float, float]


def with_tracks(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of one report, each with `tracks`, as train.examples wants them; those that have some are kept.

    One a face: `track`, `frames`, `quality` (detectors.quality) and, of detectors whose answer counts, `logits` of the
    track and `frame_logits` of its frames or clips, both before calibration.
    """
    lines = _calibrations(rows)
    return [row if "tracks" in row or not row.get("faces") else {**row, "tracks": _tracks(row, lines)} for row in rows]


def _tracks(row: Mapping[str, Any], lines: Mapping[str, Line]) -> list[dict[str, Any]]:
    found = []
    for face in row["faces"]:
        heard = _heard(face)
        found.append(
            {
                "track": face["track"],
                "frames": face["frames"],
                "quality": face.get("quality_measures", {}),
                "logits": {name: one["logit"] for name, one in heard.items()},
                "frame_logits": {
                    name: [(log_odds(score) - lines[name][1]) / lines[name][0] for _, score in one["frame_scores"]]
                    for name, one in heard.items()
                    if name in lines and one.get("frame_scores")
                },
            }
        )
    return found


def _heard(face: Mapping[str, Any]) -> dict[str, Any]:
    detectors = face.get("detectors", {})
    return {name: one for name, one in detectors.items() if one.get("status") == "ok" and one.get("logit") is not None}


def _calibrations(rows: Sequence[Mapping[str, Any]]) -> dict[str, Line]:
    """(a, b) with which each detector's scores of the report were made, from its tracks' logits and scores: those of
    the manifest may have changed since. Only where a > 0: else a frame's logit cannot be told from its score."""
    pairs: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        for face in row.get("faces") or []:
            for name, one in _heard(face).items():
                if 1e-9 < one["score"] < 1 - 1e-9:
                    pairs[name].append((one["logit"], log_odds(one["score"])))
    lines = {}
    for name, known in pairs.items():
        x, y = np.array(known).T
        if np.ptp(x) > 1e-6:
            a, b = np.polyfit(x, y, 1)
            if a > 1e-6:
                lines[name] = (float(a), float(b))
    return lines
