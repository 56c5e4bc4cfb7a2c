"""Which frames of a video are kept."""

from __future__ import annotations

from dataclasses import dataclass

from train.prepare.settings import PrepareSettings


@dataclass(frozen=True)
class FramePlan:
    """The chosen frames: frame index -> number of its run (0 where frames are not chosen in runs)."""

    runs: dict[int, int]
    total: int

    def misfits(self, seen: int) -> bool:
        """Whether the video, `seen` frames long, should be planned anew: the container's word was wrong."""
        return seen != 0 and (max(self.runs, default=-1) >= seen or seen > 1.1 * self.total)


def plan_frames(settings: PrepareSettings, total: int) -> FramePlan:
    """The frames of a video of `total` frames.

    `count`: the middles of equal parts, all frames of a shorter video. `stride`: 0, n, 2n, ... `runs`: starts evenly
    spread from the first frame to the last possible, never overlapping; fewer runs where the video is too short.
    """
    if settings.runs is not None:
        number, length = settings.runs
        number = min(number, total // length)
        free = total - length
        starts = [free // 2] if number == 1 else [free * i // (number - 1) for i in range(number)]
        return FramePlan({start + i: run for run, start in enumerate(starts) for i in range(length)}, total)
    if settings.stride is not None:
        return FramePlan(dict.fromkeys(range(0, total, settings.stride), 0), total)
    assert settings.count is not None
    count = min(settings.count, total)
    return FramePlan({(2 * i + 1) * total // (2 * count): 0 for i in range(count)}, total)
