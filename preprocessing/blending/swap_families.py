"""Face swaps and reenactments by name: each a family that can be held out, each reproducible from its generator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.clips import FaceClip, FakeStream, ShapeErrors, describe
from preprocessing.blending.masks import HullKind, Mask, RegionKind
from preprocessing.blending.pseudofake import BlendError
from preprocessing.blending.swap import Blend, Rendering, Style, align, face_size, forehead, paste
from preprocessing.types import Image, Points

Source = Literal["donor", "driver", "own"]

UPPER = [0, 1, 15, 16, *range(17, 36), *range(36, 48)]
"""Points that hold still when a person speaks: temples, brows, nose and eyes."""
RIGID = [0, 1, 2, 14, 15, 16, *range(27, 36), 36, 39, 42, 45]
"""Points that move with the head and little with the expression."""
MOVED: dict[str, list[int]] = {
    "mouth": [*range(48, 68)],
    "lower": [*range(3, 14), *range(48, 68)],
    "face": [*range(17, 27), *range(36, 68)],
}
"""Which landmarks an expression moves, by the part that is reenacted."""
SWAPPED: tuple[HullKind, ...] = ("extended", "extended", "hull")
"""Regions with the brows well inside: a region that ends at the brows shows the target's above the donor's."""


@dataclass(frozen=True)
class Family:
    """One kind of fake. `source`: another person ("donor"), another frame of the same person whose pixels are pasted
    ("driver") or whose expression alone is taken over ("own"). `follow`: how far the pasted face takes the target's
    shape (1) or keeps the donor's (0)."""

    what: str
    source: Source
    regions: tuple[HullKind | RegionKind, ...]
    blend: Blend = "feather"
    follow: float = 1.0
    moved: str = "face"
    low_resolution: bool = False


FAMILIES: dict[str, Family] = {
    "swap_triangles": Family(
        "a donor's face warped by triangles to the target's landmarks, feathered",
        "donor",
        SWAPPED,
    ),
    "swap_poisson": Family("the same, blended by its gradients (Poisson)", "donor", SWAPPED, "poisson"),
    "swap_affine": Family("a donor's face placed by a similarity, keeping its own shape", "donor", SWAPPED, follow=0.0),
    "swap_lowres": Family(
        "a donor's face as a small generator draws it: low resolution, blur or JPEG, then warped and feathered",
        "donor",
        SWAPPED,
        follow=0.7,
        low_resolution=True,
    ),
    "reenact_mouth": Family(
        "the mouth of another frame of the same person", "driver", ("mouth_chin", "lips"), moved="mouth"
    ),
    "reenact_lower": Family("the lower face of another frame", "driver", ("lower_face",), moved="lower"),
    "reenact_face": Family("the whole inner face of another frame", "driver", ("extended",)),
    "reenact_warp": Family(
        "the frame's own face warped to the expression of another frame", "own", ("extended", "components", "hull")
    ),
}
"""Swaps and reenactments by name."""


def needs_donor(family: str) -> bool:
    """Whether the family shows another person, who must be given."""
    return known(family).source == "donor"


def known(family: str) -> Family:
    """Raises BlendError that lists the names."""
    if family not in FAMILIES:
        raise BlendError(f"no swap or reenactment {family!r}: there are {', '.join(FAMILIES)}")
    return FAMILIES[family]


def swap_stream(target: FaceClip, family: str, rng: np.random.Generator, donor: FaceClip | None = None) -> FakeStream:
    """`target` with its face swapped or reenacted in each frame, one frame at a time.

    `donor`: another person for the swap_ families, a picture or a clip (of which each frame shows the picture closest
    in pose and expression, or one picture throughout). Reenactments take their expressions from `donor` where it is
    given (it should be the same person), else from other frames of `target`.

    Raises:
        BlendError: an unknown family, a swap without a donor, or a reenactment of a single frame; in the stream, a
            frame in which nothing can be pasted.
    """
    how = known(family)
    if donor is None and how.source == "donor":
        raise BlendError(f"{family} shows another person: give a donor")
    if donor is None and len(target) < 2:
        raise BlendError(f"{family} takes its expression from another frame of the same person: give a video")
    giver = target if donor is None else donor
    style, told = _style(how, rng)
    error = float(np.exp(rng.uniform(np.log(0.0015), np.log(0.008))))
    errors = ShapeErrors.draw(target.landmarks, rng, "jitter", error)
    shown = _shown(target, giver, how, donor is None, rng)

    def frame(index: int) -> tuple[Image, Mask]:
        image, points = target.frames[index], np.asarray(target.landmarks[index], np.float64)
        which = int(shown[index])
        given = _same_count(giver.landmarks[which], len(points))
        look = style
        if style.rendering.side is not None:
            look = replace(style, rendering=replace(style.rendering, side=style.rendering.side * face_size(points)))
        drawn = _drawn(points, given, how) + errors.of(index)
        source, source_points = (image, points) if how.source == "own" else (giver.frames[which], given)
        return paste(image, points, source, source_points, drawn, look)

    told |= {"error": error, "shown": [int(shown[0])] if len(set(shown.tolist())) == 1 else shown.tolist()}
    return FakeStream(frame, target.landmarks, family, told)


def _same_count(points: Points, count: int) -> NDArray[np.float64]:
    return forehead(points) if count == 81 else np.asarray(points[:68], np.float64)


def _drawn(points: NDArray[np.float64], given: NDArray[np.float64], how: Family) -> NDArray[np.float64]:
    """Where the pasted face's landmarks come to lie."""
    if how.source == "donor":
        return how.follow * points + (1 - how.follow) * align(given, points, RIGID)
    moved = MOVED[how.moved]
    drawn = points.copy()
    drawn[moved] = align(given, points, UPPER if how.moved != "face" else RIGID)[moved]
    return drawn


def _shown(target: FaceClip, giver: FaceClip, how: Family, same: bool, rng: np.random.Generator) -> NDArray[np.int64]:
    """The giver's frame for each of the target's."""
    count, there = len(target), len(giver)
    if how.source == "donor":
        if there == 1 or rng.random() < 0.3:
            return np.full(count, rng.integers(there))
        wanted, found = _normalised(target.landmarks), _normalised(giver.landmarks)
        distance = (wanted**2).sum(1)[:, None] - 2 * wanted @ found.T + (found**2).sum(1)
        return np.asarray(np.argmin(distance, axis=1))
    # The performance of another moment, in its own time: forth and back where it ends.
    start = int(rng.integers(max(there // 4, 1), there)) if same and there > 1 else int(rng.integers(there))
    period = max(2 * (there - 1), 1)
    step = (start + np.arange(count)) % period
    shown = np.where(step < there, step, period - step)
    if same:
        shown = np.where(shown == np.arange(count), (shown + max(there // 3, 1)) % there, shown)
    return shown


def _normalised(landmarks: Points) -> NDArray[np.float64]:
    points = np.asarray(landmarks[:, :68], np.float64)
    points = points - points.mean(axis=1, keepdims=True)
    points /= np.sqrt((points**2).mean(axis=(1, 2), keepdims=True))
    return points.reshape(len(points), -1)


def _style(how: Family, rng: np.random.Generator) -> tuple[Style, dict[str, Any]]:
    """A rendering's `side` is a share of the face here."""
    region = how.regions[int(rng.integers(len(how.regions)))]
    rendering = Rendering()
    if how.low_resolution:
        rendering = Rendering(
            side=float(rng.uniform(0.25, 0.6)),
            blur=float(rng.uniform(0.003, 0.01)) if rng.random() < 0.5 else 0.0,
            quality=int(rng.integers(40, 91)) if rng.random() < 0.5 else None,
        )
    elif rng.random() < 0.5:
        kind = int(rng.integers(3))
        rendering = Rendering(
            side=float(rng.uniform(0.5, 0.9)) if kind == 0 else None,
            blur=float(rng.uniform(0.003, 0.008)) if kind == 1 else 0.0,
            quality=int(rng.integers(50, 96)) if kind == 2 else None,
        )
    local = how.moved in ("mouth", "lower")
    style = Style(
        region=region,
        region_seed=int(rng.integers(2**32)),
        union=how.source != "donor",
        grow=float(rng.uniform(-0.03, 0.01)) if not local else 0.0,
        inset=0.0 if how.moved == "mouth" else float(rng.uniform(0.04, 0.1)),
        feather=float(rng.uniform(0.02, 0.03) if local else rng.uniform(0.025, 0.05)),
        blend=how.blend,
        rendering=rendering,
    )
    return style, describe(style)
