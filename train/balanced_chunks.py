"""Balanced chunks of an unbalanced data set: every chunk has all real videos and another part of the fakes.

One network is trained on each, and they vote (detectors/bagging.py): section 4 of the specification of "Detecting
Deepfakes with Metric Learning" (arXiv 2003.08645).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Chunk:
    """Videos of one network's training; as many real as fake."""

    real: tuple[str, ...]
    fake: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.real) + len(self.fake)


def balanced_chunks(real: Sequence[str], fake: Sequence[str], seed: int) -> tuple[list[Chunk], list[str]]:
    """floor(fakes / reals) chunks, no fake in two of them, and the fakes that are left over.

    The reference takes videos in the order in which the file system lists them; here they are sorted, then shuffled by
    `seed`. Celeb-DF v2 (712 real, 5,299 fake): 7 chunks of 1,424 videos, 315 fakes left over.

    Raises ValueError without real videos, with fewer fakes than real ones, or where a video is listed twice.
    """
    if len({*real, *fake}) != len(real) + len(fake):
        raise ValueError("a video is listed twice: each belongs to one class, once")
    if not real or len(fake) < len(real):
        raise ValueError(f"balanced chunks need real videos and no fewer fakes, not {len(real)} and {len(fake)}")
    size = len(real)
    order = np.random.default_rng(seed).permutation(len(fake))
    shuffled = [sorted(fake)[i] for i in order.tolist()]
    count = len(fake) // size
    reals = tuple(sorted(real))
    return [Chunk(reals, tuple(shuffled[i * size : (i + 1) * size])) for i in range(count)], shuffled[count * size :]


def validation_cut(
    chunk: Chunk, frames: Mapping[str, int], seed: int, share: float = 0.1
) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """A chunk's videos with their labels (1 fake), shuffled by `seed`, as those to train on and those to validate on.

    The latter are the last videos, as many as hold at most `share` of all frames, at least one: the reference cuts off
    the last tenth of the frames, which may part a video. `frames` is each video's number of face crops; a video without
    any is left out. Raises ValueError for a share outside 0..1, or fewer than two videos with frames.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of frames that validate is between 0 and 1, not {share}")
    labelled = [(video, 0) for video in chunk.real] + [(video, 1) for video in chunk.fake]
    kept = [item for item in labelled if frames.get(item[0], 0) > 0]
    if len(kept) < 2:
        raise ValueError(f"{len(kept)} videos of the chunk have frames; two are needed, one to validate on")
    shuffled = [kept[i] for i in np.random.default_rng(seed).permutation(len(kept)).tolist()]
    from_the_end = np.cumsum([frames[video] for video, _ in reversed(shuffled)])
    held = int(np.searchsorted(from_the_end, share * from_the_end[-1], side="right"))
    start = len(shuffled) - max(held, 1)
    return shuffled[:start], shuffled[start:]
