"""Clips manipulated frame by frame with their real motion, for detectors that look at time.

A generator draws every frame anew: what it gets wrong is partly new in each frame. Here the wrongs are few parameters
(place, shape, colour, sharpness) that follow a curve over the clip: a new draw in each frame ("jitter": true
frame-to-frame jitter) or a smooth random curve ("smooth": slow drift, as temporal smoothing leaves it). In the spirit
of video-level blending (Yan et al., "Generalizing Deepfake Video Detection with Plug-and-Play: Video-Level Blending and
Spatiotemporal Adapter Tuning", CVPR 2025), with parameters of our own. Parts of the face are families of their own, so
that each can be held out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from preprocessing.blending.masks import EYES, HULLS, MOUTH, HullKind, Mask, RegionKind
from preprocessing.blending.pseudofake import BlendError
from preprocessing.blending.swap import Rendering, Style, check_landmarks, face_size, paste
from preprocessing.landmarks import LandmarkPredictor
from preprocessing.types import Image, Points

Jitter = Literal["jitter", "smooth"]
Part = Literal["face", "mouth", "eyes", "resolution"]

CLIP_FAMILIES: dict[str, tuple[Part, Jitter]] = {
    f"clip_{part}_{jitter}": (part, jitter)
    for part in ("face", "mouth", "eyes", "resolution")
    for jitter in ("jitter", "smooth")
}
"""Self-blended clips by name."""

SMOOTHNESS = 6.0
"""Standard deviation in frames of the Gaussian that smooths a smooth curve."""
BUMPS = 12
"""A shape's error is a sum of so many smooth bumps on the face: a network moves a mouth or an eye, not one point."""


@dataclass(frozen=True)
class FaceClip:
    """Consecutive pictures of one face, each (H, W, 3) uint8 RGB, and its landmarks (T, 68 or 81, 2) in their pixels.

    One picture is a clip of one frame. Pictures may differ in size (margin crops do).
    """

    frames: Sequence[Image] | NDArray[np.uint8]
    landmarks: Points

    def __post_init__(self) -> None:
        if len(self.frames) == 0 or len(self.frames) != len(self.landmarks):
            raise BlendError(f"a clip of {len(self.frames)} pictures with landmarks for {len(self.landmarks)}")
        for index, (image, points) in enumerate(zip(self.frames, self.landmarks, strict=True)):
            if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
                raise BlendError(f"frame {index} is not (H, W, 3) uint8 but {image.shape} {image.dtype}")
            try:
                check_landmarks(points, image.shape)
            except BlendError as error:
                raise BlendError(f"frame {index}: {error}") from None

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class FakeClip:
    """A manipulated clip: `frames` as the real ones, `masks` (H, W) float32 in 0..1 a frame (0: unchanged; before the
    blend ratio, which is among the parameters), `landmarks` (T, 68 or 81, 2) of the real frames, `family`, and the
    `parameters` that were drawn, for an index."""

    frames: list[Image]
    masks: list[Mask]
    landmarks: Points
    family: str
    parameters: dict[str, Any] = field(default_factory=dict)

    def arrays(self) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """Frames (T, H, W, 3) and masks (T, H, W), where all are of one size."""
        return np.stack(self.frames), np.stack(self.masks)


@dataclass(frozen=True)
class FakeStream:
    """A manipulated clip whose frames are made when they are asked for: iteration gives (frame, mask) in order."""

    frame: Callable[[int], tuple[Image, Mask]]
    landmarks: Points
    family: str
    parameters: dict[str, Any]

    def __iter__(self) -> Iterator[tuple[Image, Mask]]:
        for index in range(len(self.landmarks)):
            try:
                yield self.frame(index)
            except BlendError as error:
                raise BlendError(f"frame {index}: {error}") from None

    def clip(self) -> FakeClip:
        """All frames at once."""
        frames, masks = zip(*self, strict=True)
        return FakeClip(list(frames), list(masks), np.asarray(self.landmarks).copy(), self.family, self.parameters)


def blend_stream(clip: FaceClip, family: str, rng: np.random.Generator) -> FakeStream:
    """Each frame blended with a changed copy of itself, the changes following a curve; one frame at a time.

    Raises:
        BlendError: a family that is not of CLIP_FAMILIES; in the stream, a frame in which nothing can be blended.
    """
    if family not in CLIP_FAMILIES:
        raise BlendError(f"no clip family {family!r}: there are {', '.join(CLIP_FAMILIES)}")
    part, jitter = CLIP_FAMILIES[family]
    style = _style(part, rng)
    changing = part != "resolution"
    offset = _log_uniform(rng, 0.004, 0.02) * changing
    errors = ShapeErrors.draw(clip.landmarks, rng, jitter, _log_uniform(rng, 0.003, 0.012) * changing, offset)
    flicker = _log_uniform(rng, 0.3, 4) * changing
    gains = np.array(style.gain) + curve(rng, len(clip), 3, jitter) * (flicker / 128)
    # A generator's sharpness follows what it draws, not only its size.
    sides = np.exp(0.12 * curve(rng, len(clip), 1, jitter)[:, 0])

    def frame(index: int) -> tuple[Image, Mask]:
        image, points = clip.frames[index], clip.landmarks[index]
        rendering = style.rendering
        if rendering.side is not None:
            rendering = replace(rendering, side=max(rendering.side * face_size(points) * float(sides[index]), 8.0))
        look = replace(style, rendering=rendering, gain=_three(gains[index]))
        return paste(image, points, image, points, points + errors.of(index), look)

    told = {"part": part, "jitter": jitter, "offset": offset, "error": errors.size, "flicker": flicker}
    return FakeStream(frame, clip.landmarks, family, told | describe(style))


def remeasure(frames: Sequence[Image], boxes: NDArray[np.floating], predictor: LandmarkPredictor) -> Points:
    """Landmarks (T, 68 or 81, 2) found anew on pictures of a face, in boxes (T, 4) in dlib's convention.

    Detectors of landmarks see a fake's jitter only in landmarks that were measured on the fake.
    """
    found = [predictor.predict(image, box[None])[0] for image, box in zip(frames, boxes, strict=True)]
    return np.stack(found).astype(np.float32)


def curve(rng: np.random.Generator, count: int, channels: int, jitter: Jitter) -> NDArray[np.float64]:
    """(count, channels) of zero mean and unit variance: independent, or white noise smoothed over SMOOTHNESS frames."""
    if jitter == "jitter":
        return rng.standard_normal((count, channels))
    reach = int(4 * SMOOTHNESS)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / SMOOTHNESS) ** 2)
    kernel /= np.sqrt((kernel**2).sum())
    noise = rng.standard_normal((count + 2 * reach, channels))
    return np.stack([np.convolve(column, kernel, "valid") for column in noise.T], axis=1)


@dataclass(frozen=True)
class ShapeErrors:
    """How far a drawn face's landmarks lie off the true ones: `pixels` (T, N, 2), and their spread `size`, a share of
    the face."""

    pixels: NDArray[np.float64]
    size: float

    @classmethod
    def draw(
        cls, landmarks: Points, rng: np.random.Generator, jitter: Jitter, size: float, offset: float = 0.0
    ) -> ShapeErrors:
        """Shift, turn and stretch of the whole face plus bumps in its shape, of spread `size` that follows a curve, and
        a constant error of shape of spread `offset`; shares of the face."""
        count = len(landmarks)
        sizes = np.array([face_size(points) for points in landmarks])
        face = landmarks.astype(np.float64) - landmarks.mean(axis=1, keepdims=True)
        face = (face / sizes[:, None, None]).mean(axis=0)
        shares = rng.dirichlet((1.0, 1.0, 1.0, 2.0)) ** 0.5
        # Bumps as wide as an eye up to half the face.
        width = _log_uniform(rng, 0.12, 0.5)
        centres = face[rng.choice(68, BUMPS, replace=False)]
        bumps = np.exp(-0.5 * (np.linalg.norm(face[:, None] - centres, axis=2) / width) ** 2)
        bumps /= np.sqrt((bumps**2).sum(axis=1).mean())
        constant = bumps @ rng.standard_normal((BUMPS, 2)) * offset
        moves = curve(rng, count, 4, jitter) * size
        shapes = curve(rng, count, 2 * BUMPS, jitter).reshape(count, BUMPS, 2) * (size * shares[3])
        turned = np.stack([-face[:, 1], face[:, 0]], axis=1)
        relative = (
            moves[:, None, :2] * shares[0]
            + moves[:, 2, None, None] * shares[1] * turned
            + moves[:, 3, None, None] * shares[2] * face
            + np.einsum("pk,tkc->tpc", bumps, shapes)
            + constant
        )
        return cls(relative * sizes[:, None, None], size)

    def of(self, index: int) -> NDArray[np.float64]:
        """(N, 2) in pixels of frame `index`."""
        return np.asarray(self.pixels[index])


def describe(style: Style) -> dict[str, Any]:
    """The style's values as an index keeps them."""
    rendering = {name: value for name, value in vars(style.rendering).items() if value}
    plain = {name: getattr(style, name) for name in ("region", "grow", "inset", "feather", "ratio", "blend", "colour")}
    return {**plain, "rendering": rendering}


def _style(part: Part, rng: np.random.Generator) -> Style:
    """What stays the same over the clip. A rendering's `side` is a share of the face here."""
    kinds: Sequence[HullKind | RegionKind] = {"mouth": MOUTH, "eyes": EYES}.get(part, HULLS)
    region = kinds[int(rng.integers(len(kinds)))]
    seed = int(rng.integers(2**32))
    local = part in ("mouth", "eyes")
    feather = float(rng.uniform(0.015, 0.03) if local else rng.uniform(0.02, 0.06))
    if part == "resolution":
        rendering = Rendering(side=float(rng.uniform(0.25, 0.7)), blur=float(rng.choice((0.0, 0.006))))
        return Style(region, seed, feather=feather, colour=False, rendering=rendering)
    detail = rng.random()
    rendering = Rendering(
        side=float(rng.uniform(0.35, 0.85)) if detail < 0.4 else None,
        blur=float(rng.uniform(0.003, 0.01)) if 0.4 <= detail < 0.6 else 0.0,
        sharpness=float(rng.uniform(0.1, 0.35)) if 0.6 <= detail < 0.8 else 0.0,
    )
    gain = _three(1 + rng.uniform(-0.08, 0.08) + rng.uniform(-0.02, 0.02, 3))
    offset = _three(rng.uniform(-8, 8, 3))
    return Style(
        region,
        seed,
        grow=float(rng.uniform(-0.05, 0.02)),
        feather=feather,
        ratio=float(rng.choice((0.5, 0.75, 1.0, 1.0))),
        colour=False,
        gain=gain,
        offset=offset,
        rendering=rendering,
    )


def _three(values: NDArray[np.floating]) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))
