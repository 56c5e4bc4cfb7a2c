"""Perturbations by name and level, and suites of them; level 1 is the mildest."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from preprocessing.perturb import pictures as on
from preprocessing.perturb.video import recompress
from preprocessing.types import Image

Stream = Iterable[Image]


class Step(NamedTuple):
    """One cell of a suite."""

    name: str
    level: int


class PerturbationError(ValueError):
    """A name, a level or a picture that there is no perturbation for."""


class _Post(NamedTuple):
    """What a service does with an upload: longer side in pixels at most and JPEG quality for a picture, longer side and
    CRF for a video."""

    side: int
    quality: int
    video_side: int
    crf: int


@dataclass(frozen=True)
class _Kind:
    """A perturbation: its levels' parameters, what one does in words, and how it is done to a stream of frames."""

    parameters: tuple[float | _Post, ...]
    words: str
    apply: Callable[..., Iterator[Image]]


def _each(change: Callable[..., Image], random: bool = False) -> Callable[..., Iterator[Image]]:
    """A change of single pictures; random ones draw anew in each frame, as a sensor and a channel do."""

    def apply(frames: Stream, parameter: float, rng: np.random.Generator, fps: float, still: bool) -> Iterator[Image]:
        for image in frames:
            yield change(image, parameter, rng) if random else change(image, parameter)

    return apply


def _video(frames: Stream, crf: float, rng: np.random.Generator, fps: float, still: bool) -> Iterator[Image]:
    yield from recompress(frames, int(crf), fps)


def _posted(frames: Stream, post: _Post, rng: np.random.Generator, fps: float, still: bool) -> Iterator[Image]:
    if still:
        for image in frames:
            yield on.compress(on.limit_side(image, post.side), post.quality)
        return
    yield from recompress((on.limit_side(image, post.video_side) for image in frames), post.crf, fps, "veryfast")


def _reposted(frames: Stream, post: _Post, rng: np.random.Generator, fps: float, still: bool) -> Iterator[Image]:
    yield from _posted(_posted(frames, post, rng, fps, still), post, rng, fps, still)


_POST = "longer side at most {0.side}, JPEG {0.quality}; video: longer side at most {0.video_side}, H.264 CRF {0.crf}"
_KINDS: dict[str, _Kind] = {
    "jpeg": _Kind((95, 85, 75, 60, 45, 30), "JPEG, quality {0:g}", _each(lambda i, q: on.compress(i, int(q)))),
    "h264": _Kind((23, 32, 40), "H.264, CRF {0:g}", _video),
    "resize": _Kind((1.5, 2, 3, 4), "down by {0:g} and back up", _each(on.lower_resolution)),
    "small": _Kind((448, 224, 168), "longer side at most {0:g} pixels", _each(on.limit_side)),
    "blur": _Kind((0.002, 0.004, 0.008), "Gaussian blur, sigma {0:g} of the shorter side", _each(on.blur)),
    "noise": _Kind((4, 8, 16), "white noise, {0:g} levels", _each(on.noise, random=True)),
    "contrast_down": _Kind((0.8, 0.6, 0.4), "contrast times {0:g}", _each(on.contrast)),
    "contrast_up": _Kind((1.2, 1.4, 1.7), "contrast times {0:g}", _each(on.contrast)),
    # Services change what they do, and differ by client; these are round figures after public reports.
    "microblog": _Kind((_Post(4096, 85, 1280, 25),), _POST, _posted),
    "feed": _Kind((_Post(1080, 77, 720, 28),), _POST, _posted),
    "messenger": _Kind((_Post(1600, 65, 640, 30),), _POST, _posted),
    "reposted": _Kind((_Post(800, 60, 480, 32),), "twice: " + _POST, _reposted),
    "df_saturation": _Kind((0.4, 0.3, 0.2, 0.1, 0.0), "CS: chroma times {0:g}", _each(on.saturation)),
    "df_contrast": _Kind((0.85, 0.725, 0.6, 0.475, 0.35), "CC: levels times {0:g}", _each(on.darken)),
    "df_blocks": _Kind(
        (16, 32, 48, 64, 80),
        "BW: {0:g} grey 8 x 8 blocks a 256 px",
        _each(lambda i, n, rng: on.blocks(i, int(n), rng), random=True),
    ),
    "df_noise": _Kind(
        (0.001, 0.002, 0.005, 0.01, 0.05),
        "GNC: white noise of variance {0:g} in Y, Cb, Cr",
        _each(on.noise_in_components, random=True),
    ),
    "df_blur": _Kind(
        (7, 9, 13, 17, 21), "GB: Gaussian blur, kernel {0:g} px", _each(lambda i, k: on.kernel_blur(i, int(k)))
    ),
    "df_jpeg": _Kind(
        (2, 3, 4, 5, 6),
        "JPEG of the published code: bilinear down by {0:g} and back up",
        _each(lambda i, f: on.block_average(i, int(f))),
    ),
    "df_video": _Kind((30, 32, 35, 38, 40), "VC: H.264, CRF {0:g}", _video),
}


def _grid(*chosen: str) -> tuple[Step, ...]:
    return tuple(Step(name, level) for name in chosen for level in levels(name))


def names() -> tuple[str, ...]:
    """Every perturbation."""
    return tuple(_KINDS)


def levels(name: str) -> tuple[int, ...]:
    """1 to the number of its levels. Raises PerturbationError for an unknown name."""
    return tuple(range(1, len(_kind(name).parameters) + 1))


def describe(name: str, level: int) -> str:
    """What a level does, in words with its parameter. Raises PerturbationError."""
    return _kind(name).words.format(_parameter(name, level))


def suites() -> dict[str, tuple[Step, ...]]:
    """The suites by name; each perturbation is a suite of its own levels too."""
    social = ("microblog", "feed", "messenger", "reposted")
    deeper = tuple(name for name in _KINDS if name.startswith("df_"))
    named = {
        "compression": _grid("jpeg", "h264"),
        "classic": _grid("jpeg", "h264", "resize", "blur", "noise", "contrast_down", "contrast_up"),
        "social": _grid(*social),
        "deeperforensics": _grid(*deeper),
        "everyday": (Step("h264", 1), Step("h264", 3), Step("jpeg", 5), Step("small", 2)),
        "quick": (Step("jpeg", 4), Step("h264", 2), Step("resize", 2), Step("blur", 2), Step("noise", 2)),
    }
    return named | {name: _grid(name) for name in _KINDS}


def suite(name: str) -> tuple[Step, ...]:
    """The steps of a suite. Raises PerturbationError that names the nearest."""
    found = suites()
    if name not in found:
        raise PerturbationError(_unknown("suite", name, found))
    return found[name]


def perturb(
    name: str, level: int, media: NDArray[np.uint8], rng: np.random.Generator, *, fps: float = 25.0
) -> NDArray[np.uint8]:
    """A picture (H, W, 3) or a clip (T, H, W, 3) uint8 RGB, perturbed; equal generators give equal bytes.

    The size stays, but for `small` and the services' (`microblog`, `feed`, `messenger`, `reposted`), which limit the
    longer side.
    Video compression encodes a picture as a clip of one frame: intra coding only, without what motion compensation
    does to a video at the same CRF.

    Raises:
        PerturbationError: an unknown name or level, or an array of another shape or type.
    """
    if media.dtype != np.uint8 or media.ndim not in (3, 4) or media.shape[-1] != 3 or 0 in media.shape:
        raise PerturbationError(f"a picture (H, W, 3) or a clip (T, H, W, 3) of uint8, not {media.shape} {media.dtype}")
    still = media.ndim == 3
    changed = list(perturb_stream(name, level, media[None] if still else media, rng, fps=fps, still=still))
    return changed[0] if still else np.stack(changed)


def perturb_stream(
    name: str, level: int, frames: Stream, rng: np.random.Generator, *, fps: float = 25.0, still: bool = False
) -> Iterator[Image]:
    """`perturb` for the frames of a video of any length: as many come out, one at a time. Memory does not grow with the
    length, but for video compression's encoded stream."""
    kind = _kind(name)
    return kind.apply(frames, _parameter(name, level), rng, fps, still)


def _kind(name: str) -> _Kind:
    if name not in _KINDS:
        raise PerturbationError(_unknown("perturbation", name, _KINDS))
    return _KINDS[name]


def _parameter(name: str, level: int) -> float | _Post:
    parameters = _kind(name).parameters
    if not 1 <= level <= len(parameters):
        raise PerturbationError(f"{name} has levels 1 to {len(parameters)}, not {level}")
    return parameters[level - 1]


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"no {what} {name!r}: " + (f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}")
