"""Faces manipulated frame by frame, as face swaps are: each frame for itself, so that the landmarks found on it jitter.

A swap's decoder draws the face anew in every frame: its place, its shape and its expression differ from the true ones
by an error that is partly new in each frame. Here the error is drawn (first-order autoregressive noise) and put into
the picture by warping a face - the frame's own, that of a frame near by, or another person's - and blending it in. The
landmarks are then found on the picture, never changed themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.masks import HULLS, MOUTH, HullKind, RegionKind, hull_mask, region_mask
from preprocessing.types import Image, Points

Source = Literal["self", "neighbour", "other"]

GRID = 20
"""The warp is evaluated on a grid of 20 x 20 over the face and interpolated in between."""
SMOOTHING = 1e-3
"""Regularisation of the thin-plate spline, so that points on top of one another do not tear the picture."""
NEIGHBOURS = 5


@dataclass(frozen=True)
class FaceSequence:
    """Consecutive pictures (H, W, 3) of one face and its landmarks (N, 68, 2), in their pixels."""

    images: Sequence[Image]
    landmarks: Points


@dataclass(frozen=True)
class Manipulation:
    """One swap: what it shows and how steady it is. Lengths are shares of the face (longer side of the landmark box).

    `shift`, `turn` (radians), `stretch` and `shape` are standard deviations of the error; `memory` is what one frame's
    error keeps of the frame before; `offset` a constant error of shape; `follow` how far the shape is the target's
    (1) rather than the source's (0). `side` is the resolution in pixels of the drawn face, None for the source's own;
    `ratio` its opacity, `feather` the blur of the mask's border, `flicker` the unsteadiness of its colour in levels.
    """

    source: Source
    region: HullKind | RegionKind
    shift: float
    turn: float
    stretch: float
    shape: float
    scale_length: float
    offset: float
    memory: float
    follow: float
    side: float | None
    ratio: float
    grow: float
    feather: float
    flicker: float
    seed: int

    @classmethod
    def draw(cls, rng: np.random.Generator, others: bool = True) -> Manipulation:
        """Faint manipulations as well as plain ones: the error's size is log-uniform over a decade."""
        sources: tuple[Source, ...] = ("self", "neighbour", "other") if others else ("self", "neighbour")
        odds = (0.45, 0.15, 0.4) if others else (0.75, 0.25)
        region = str(rng.choice(MOUTH)) if rng.random() < 0.15 else str(rng.choice(HULLS))
        size = _log_uniform(rng, 0.0015, 0.012)
        mixing = rng.dirichlet((1.0, 1.0, 1.0, 2.0)) ** 0.5
        return cls(
            source=sources[int(rng.choice(len(sources), p=odds))],
            region=region,  # type: ignore[arg-type]
            shift=size * float(mixing[0]),
            turn=size * float(mixing[1]),
            stretch=size * float(mixing[2]),
            shape=size * float(mixing[3]),
            scale_length=_log_uniform(rng, 0.12, 0.6),
            offset=float(rng.uniform(0, 0.02)),
            memory=float(rng.uniform(0, 0.85)),
            follow=float(rng.uniform(0.4, 1)),
            side=_log_uniform(rng, 64, 256) if rng.random() < 0.6 else None,
            ratio=float(rng.choice((0.75, 0.9, 1.0, 1.0))),
            grow=float(rng.uniform(-0.04, 0.06)),
            feather=float(rng.uniform(0.015, 0.06)),
            flicker=_log_uniform(rng, 0.1, 4),
            seed=int(rng.integers(2**32)),
        )


def manipulate(target: FaceSequence, how: Manipulation, other: FaceSequence | None = None) -> Iterator[Image]:
    """Yields `target`'s pictures with the face manipulated in each; reproducible from `how` alone.

    `other` is the person that source "other" shows: a still is chosen, or in each frame the picture whose expression
    and pose come closest.

    Raises:
        ValueError: source "other" without another person.
    """
    if how.source == "other" and other is None:
        raise ValueError('the source "other" needs the pictures of another person')
    rng = np.random.default_rng(how.seed)
    count = len(target.landmarks)
    size = float(np.ptp(target.landmarks, axis=1).max(axis=1).mean())
    errors = _errors(target.landmarks, how, size, rng)
    gains = 1 + _noise(rng, count, (3,), how.memory) * (how.flicker / 128)
    giver = other if how.source == "other" and other is not None else target
    for index, which in enumerate(_sources(target, giver, how, rng)):
        points = target.landmarks[index].astype(np.float64)
        given = giver.landmarks[which].astype(np.float64)
        shape = how.follow * points + (1 - how.follow) * _aligned(given, points)
        drawn = _similar(shape, errors.similarity[index]) + errors.shape[index]
        yield _swap(target.images[index], giver.images[which], given, drawn, how, size, gains[index])


@dataclass(frozen=True)
class _Errors:
    """`similarity` (N, 4): shift x, shift y in pixels, turn, stretch; `shape` (N, 68, 2) in pixels."""

    similarity: NDArray[np.float64]
    shape: NDArray[np.float64]


def _errors(landmarks: Points, how: Manipulation, size: float, rng: np.random.Generator) -> _Errors:
    count = len(landmarks)
    spread = np.array([how.shift * size, how.shift * size, how.turn, how.stretch])
    similarity = _noise(rng, count, (4,), how.memory) * spread
    # Smooth bumps on the face: a network's error moves a mouth or an eye, not one point of it.
    face = landmarks.mean(axis=0, dtype=np.float64)
    face = (face - face.mean(axis=0)) / size
    centres = face[rng.choice(68, 16, replace=False)]
    distance = np.linalg.norm(face[:, None] - centres, axis=2)
    bumps = np.exp(-0.5 * (distance / how.scale_length) ** 2)
    bumps /= np.sqrt((bumps**2).sum(axis=1).mean())
    moving = np.einsum("pk,nkc->npc", bumps, _noise(rng, count, (16, 2), how.memory)) * (how.shape * size)
    constant = bumps @ rng.standard_normal((16, 2)) * (how.offset * size)
    return _Errors(similarity, moving + constant)


def _noise(rng: np.random.Generator, count: int, shape: tuple[int, ...], memory: float) -> NDArray[np.float64]:
    """(count, *shape) of unit variance, first-order autoregressive along the first axis."""
    fresh = rng.standard_normal((count, *shape)) * np.sqrt(1 - memory**2)
    fresh[0] /= np.sqrt(1 - memory**2)
    for row in range(1, count):
        fresh[row] += memory * fresh[row - 1]
    return fresh


def _sources(
    target: FaceSequence, giver: FaceSequence, how: Manipulation, rng: np.random.Generator
) -> NDArray[np.int64]:
    """For each of the target's frames, the frame of the giver whose face is shown."""
    count = len(target.landmarks)
    if how.source == "self":
        return np.arange(count)
    if how.source == "neighbour":
        offsets = rng.integers(-NEIGHBOURS, NEIGHBOURS + 1, count)
        stays = rng.random(count) < how.memory
        for row in range(1, count):
            if stays[row]:
                offsets[row] = offsets[row - 1]
        return np.clip(np.arange(count) + offsets, 0, count - 1)
    if rng.random() < 0.5:
        return np.full(count, rng.integers(len(giver.landmarks)))
    shown, wanted = _normalised(giver.landmarks), _normalised(target.landmarks)
    distance = (wanted**2).sum(1)[:, None] - 2 * wanted @ shown.T + (shown**2).sum(1)
    return np.argmin(distance, axis=1)


def _normalised(landmarks: Points) -> NDArray[np.float64]:
    centred = landmarks.astype(np.float64) - landmarks.mean(axis=1, keepdims=True)
    centred /= np.sqrt((centred**2).mean(axis=(1, 2), keepdims=True))
    return centred.reshape(len(landmarks), -1)


def _aligned(points: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """`points` by the similarity that brings them closest to `to` (Umeyama, PAMI 1991; x + iy as complex numbers)."""
    a, b = points @ (1, 1j), to @ (1, 1j)
    factor = np.vdot(a - a.mean(), b - b.mean()) / max(np.vdot(a - a.mean(), a - a.mean()).real, 1e-9)
    moved = (a - a.mean()) * factor + b.mean()
    return np.column_stack([moved.real, moved.imag])


def _similar(points: NDArray[np.float64], error: NDArray[np.float64]) -> NDArray[np.float64]:
    centre = points.mean(axis=0)
    cos, sin = np.cos(error[2]) * (1 + error[3]), np.sin(error[2]) * (1 + error[3])
    return (points - centre) @ np.array([[cos, sin], [-sin, cos]]) + centre + error[:2]


def _swap(
    image: Image,
    shown: Image,
    given: NDArray[np.float64],
    drawn: NDArray[np.float64],
    how: Manipulation,
    size: float,
    gain: NDArray[np.float64],
) -> Image:
    """`image` with the face of `shown`, whose landmarks `given` come to lie on `drawn`."""
    margin = 0.2 * size
    height, width = image.shape[:2]
    low = np.clip(np.floor(drawn.min(axis=0) - margin), 0, (width - 2, height - 2)).astype(int)
    high = np.clip(np.ceil(drawn.max(axis=0) + margin), low + 2, (width, height)).astype(int)
    window = (int(high[1] - low[1]), int(high[0] - low[0]))
    local = drawn - low
    mask = _mask(local, window, how, size)
    if mask.max() <= 0:
        return image
    place = image[low[1] : high[1], low[0] : high[0]]
    face = cv2.remap(shown, *_warp(local, given, window), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if how.side is not None and how.side < size:
        factor = how.side / size
        small = cv2.resize(face, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        face = cv2.resize(small, (window[1], window[0]), interpolation=cv2.INTER_CUBIC)
    painted = _coloured(face, place, mask, gain)
    weights = (mask * how.ratio)[..., None]
    blended = place + weights * (painted - place)
    result = image.copy()
    result[low[1] : high[1], low[0] : high[0]] = np.clip(np.rint(blended), 0, 255).astype(np.uint8)
    return result


def _mask(points: NDArray[np.float64], window: tuple[int, int], how: Manipulation, size: float) -> NDArray[np.float32]:
    centre = points.mean(axis=0)
    grown = (centre + (1 + how.grow) * (points - centre)).astype(np.float32)
    if how.region in HULLS:
        mask = hull_mask(how.region, grown, window)
    else:
        # The same draw in every frame: the region keeps its extent.
        mask = region_mask(how.region, grown, window, np.random.default_rng(how.seed))  # type: ignore[arg-type]
    return cv2.GaussianBlur(mask, (0, 0), max(how.feather * size, 0.5))


def _warp(
    drawn: NDArray[np.float64], given: NDArray[np.float64], window: tuple[int, int]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maps for cv2.remap of a window (H, W): the thin-plate spline that takes `drawn` back to `given`."""
    ys, xs = np.linspace(0, window[0] - 1, GRID), np.linspace(0, window[1] - 1, GRID)
    grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
    unit = float(max(window))
    points, wanted = drawn / unit, np.zeros((71, 2))
    wanted[:68] = given
    system = np.zeros((71, 71))
    system[:68, :68] = _kernel(points, points) + SMOOTHING * np.eye(68)
    system[:68, 68] = system[68, :68] = 1
    system[:68, 69:] = points
    system[69:, :68] = points.T
    weights = np.linalg.solve(system, wanted)
    at = grid / unit
    found = _kernel(at, points) @ weights[:68] + weights[68] + at @ weights[69:]
    # The grid's outer nodes are the centres of the outer pixels; cv2.resize would put them half a cell inside.
    coarse = found.reshape(GRID, GRID, 2).astype(np.float32)
    columns = np.linspace(0, GRID - 1, window[1], dtype=np.float32)[None].repeat(window[0], axis=0)
    rows = np.linspace(0, GRID - 1, window[0], dtype=np.float32)[:, None].repeat(window[1], axis=1)
    fine = cv2.remap(coarse, columns, rows, cv2.INTER_LINEAR)
    return np.ascontiguousarray(fine[..., 0]), np.ascontiguousarray(fine[..., 1])


def _kernel(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    squared = np.maximum(((a[:, None] - b) ** 2).sum(axis=2), 1e-12)
    return 0.5 * squared * np.log(squared)


def _coloured(face: Image, place: Image, mask: NDArray[np.float32], gain: NDArray[np.float64]) -> NDArray[np.float32]:
    """`face` with the mean and spread of each channel that `place` has inside the mask, times the frame's gain."""
    inside = (mask > 0.5).astype(np.uint8) if (mask > 0.5).any() else (mask > 0).astype(np.uint8)
    mean, spread = cv2.meanStdDev(face, mask=inside)
    want_mean, want_spread = cv2.meanStdDev(place, mask=inside)
    slope = np.clip(want_spread / np.maximum(spread, 1.0), 0.5, 2.0)[:, 0]
    level = want_mean[:, 0] * gain - mean[:, 0] * slope
    return face.astype(np.float32) * slope.astype(np.float32) + level.astype(np.float32)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
