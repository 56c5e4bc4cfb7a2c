"""Rows of an evaluation, made up."""

from typing import Any


def row(
    label: int,
    score: float | None,
    verdict: str = "inconclusive",
    *,
    name: str = "p",
    dataset: str = "x",
    method: str = "",
    identity: str = "",
    frames: tuple[float, ...] = (),
    clips: tuple[float, ...] = (),
) -> dict[str, Any]:
    """A file whose one face has the fused `score`, which detector `a` gives too; `frames` of `a`, `clips` of `b`."""
    found: dict[str, Any] = {
        "path": name, "label": label, "dataset": dataset, "method": method, "identity": identity, "sha256": "",
        "score": score, "verdict": verdict, "reason": "", "threshold": 0.5, "detectors": {}, "logits": {}, "faces": [],
    }  # fmt: skip
    if score is None:
        return found
    answer = {"status": "ok", "reason": "", "score": score, "logit": 4 * score - 2}
    detectors = {"a": answer | {"frame_scores": [[i, one] for i, one in enumerate(frames)]}}
    if clips:
        detectors["b"] = answer | {"frame_scores": [[i, one] for i, one in enumerate(clips)]}
    said = {name: {"detectors": one["score"], "logits": one["logit"]} for name, one in detectors.items()}
    return found | {
        "faces": [{"track": 0, "frames": 9, "quality": [], "fused": score, "detectors": detectors}],
        "detectors": {name: one["detectors"] for name, one in said.items()},
        "logits": {name: one["logits"] for name, one in said.items()},
    }
