"""Why a detector says what it says: a map for every detector, all in one form, so that one overlay shows them all.

A method's own map comes first; then Grad-CAM toward *fake* (Selvaraju et al., ICCV 2017, arXiv 1610.02391), for each
frame where the detector looks at a clip; for detectors of landmarks the points that move the score.

The usual Grad-CAM picture divides each map by its own maximum, so that the faintest trace of evidence in a real face
glows as red as a forgery. Here the maximum of a map is the face's calibrated score instead: where the detector says
0.03, nothing on the picture is brighter than 0.03. So brightness compares between faces; within one face the map is
still relative, coarse (the layer's resolution) and no proof that the marked pixels were changed.
"""

from __future__ import annotations

import copy
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from detectors.base import Detector
from detectors.predict import HEATMAP_BATCH, clips_of
from detectors.store import LoadedDetector
from preprocessing.inputs import ClipInput, FaceInput, LandmarkInput

Kind = Literal["native", "grad-cam", "grad-cam++", "hires-cam", "layer-cam", "xgrad-cam", "landmarks"]
KINDS: tuple[Kind, ...] = get_args(Kind)
_OF_THE_LIBRARY = {
    "grad-cam++": "GradCAMPlusPlus",
    "hires-cam": "HiResCAM",
    "layer-cam": "LayerCAM",
    "xgrad-cam": "XGradCAM",
}
LANDMARK_PICTURE = 256
"""Side of the picture of landmarks, pixels, unless another is asked for."""


class NotExplained(ValueError):
    """There is no such map for this detector, or what makes it is not installed; the message says which."""


@dataclass(frozen=True)
class Explanation:
    """Maps of N samples, all float32.

    `maps` (N, size, size) in 0..1, evidence for fake, to lay over the crop; of a clip or a run of landmarks over that
    of frame `frames` (N,), int64, the one that says most (0 for single faces). `frame_maps` (N, T, size, size): every
    frame of a clip, where the method tells them apart. `moments` (N, T): how much each frame says; of a clip the peak
    of its map, of landmarks in logits, where below 0 speaks for real. `landmarks` (N, 68): the same for each landmark.
    """

    kind: Kind
    maps: NDArray[np.float32]
    frames: NDArray[np.int64]
    frame_maps: NDArray[np.float32] | None = None
    moments: NDArray[np.float32] | None = None
    landmarks: NDArray[np.float32] | None = None


def map_kind(detector: Detector) -> Kind:
    """Which map `explain` makes of this detector unless it is asked for another."""
    if isinstance(detector.input, LandmarkInput):
        return "landmarks"
    return "native" if detector.native_map else "grad-cam"


def explain(
    loaded: LoadedDetector,
    samples: NDArray[Any],
    method: Kind | None = None,
    *,
    points: NDArray[np.floating] | None = None,
    size: int = LANDMARK_PICTURE,
) -> Explanation:
    """Maps of N >= 1 samples of the detector's declared input, in crop coordinates.

    `method`: None takes the first that the detector has of native, grad-cam, landmarks. Grad-CAM++ and the later ones
    are the package grad-cam's. `points`, for landmarks only: (N, T, 68, 2), where each sample's landmarks are in the
    pixels of the crops, of `size`, over which they will be shown; without it, they are drawn in LRNet's own square.

    Raises NotExplained, and ValueError for samples of another shape or none.
    """
    if method is not None and method not in KINDS:
        raise NotExplained(f"no map is called {method!r}: there are {', '.join(KINDS)}")
    if not len(samples):
        raise ValueError("there is no sample to explain")
    spec = loaded.detector.input
    if isinstance(spec, LandmarkInput):
        if method not in (None, "landmarks"):
            raise NotExplained(f"{loaded.detector.name} sees landmarks and no picture: its map is 'landmarks'")
        return _of_landmarks(loaded, samples, points, size)
    if method == "landmarks":
        raise NotExplained(f"{loaded.detector.name} sees a picture and no landmarks: ask for grad-cam")
    kind: Kind = method or map_kind(loaded.detector)
    size_of_batch = clips_of(HEATMAP_BATCH, spec)
    made = []
    for start in range(0, len(samples), size_of_batch):
        batch = loaded.detector.prepare(samples[start : start + size_of_batch])
        made.append(_native(loaded.detector, batch) if kind == "native" else _cam(loaded, batch, kind))
    return _of_faces(kind, torch.cat(made), spec)


def _of_landmarks(
    loaded: LoadedDetector, rows: NDArray[Any], points: NDArray[np.floating] | None, size: int
) -> Explanation:
    """The frame shown is the one that speaks most for fake."""
    from detectors.landmark_evidence import draw, evidence, own_square

    where = own_square(rows, size) if points is None else points
    if where.shape != (*rows.shape[:2], 68, 2):
        raise ValueError(f"points are {where.shape} and should be {(*rows.shape[:2], 68, 2)}")
    found = evidence(loaded.detector, rows)
    with torch.inference_mode():
        score = loaded.score(loaded.detector(loaded.detector.prepare(rows)).logit.float().cpu().numpy())
    frames = found.moments.argmax(1)
    maps = [draw(where[n, frames[n]], found.landmarks[n], float(score[n]), size) for n in range(len(rows))]
    return Explanation("landmarks", np.stack(maps), frames, moments=found.moments, landmarks=found.landmarks)


def _native(detector: Detector, batch: Tensor) -> Tensor:
    maps = detector.heatmaps(batch)
    if maps is None:
        raise NotExplained(f"{detector.name} makes no map of its own: ask for grad-cam")
    return maps[:, None]


def _of_faces(kind: Kind, maps: Tensor, spec: FaceInput | ClipInput) -> Explanation:
    """Maps (N, t, h, w) of any resolution to an Explanation."""
    face, length = (spec.face, spec.length) if isinstance(spec, ClipInput) else (spec, 1)
    shape = (length if maps.shape[1] > 1 else 1, face.size, face.size)
    sized = functional.interpolate(maps[:, None].float(), shape, mode="trilinear", align_corners=False)
    each = sized[:, 0].clamp(0, 1).cpu().numpy()
    if each.shape[1] == 1:
        # Of a clip, such a map belongs to all frames alike, and is shown over the middle one.
        return Explanation(kind, each[:, 0], np.full(len(each), length // 2, np.int64))
    moments = each.max((2, 3))
    frames = moments.argmax(1)
    return Explanation(kind, each[np.arange(len(each)), frames], frames, each, moments)


def grad_cam(loaded: LoadedDetector, batch: Tensor) -> Tensor | None:
    """Maps of a prepared batch, (B, h, w) in 0..score at the resolution of `cam_layer`; None where there is none.

    Of a clip it is the middle frame's, which may be dark where the evidence is in others; `explain` gives all of them.
    """
    if loaded.detector.cam_layer() is None:
        return None
    maps = _cam(loaded, batch, "grad-cam")
    return maps[:, maps.shape[1] // 2]


def _cam(loaded: LoadedDetector, batch: Tensor, kind: Kind) -> Tensor:
    """(B, t, h, w) in 0..score, of each frame; t is 1 for faces.

    Grad-CAM's formula stands here, because importing the library for it costs more than a whole scan; the tests hold
    the two against each other.
    """
    if loaded.detector.cam_layer() is None:
        raise NotExplained(f"{loaded.detector.name} has no layer with a map to look at")
    with private_copy(loaded.detector) as detector:
        logit, activation, gradient = _at_layer(detector, batch)
        if kind == "grad-cam":
            evidence = (gradient.mean((3, 4), keepdim=True) * activation).sum(2)
        else:
            evidence = _by_library(kind, detector, batch, activation, gradient)
    evidence = evidence.relu()
    peak = evidence.amax((1, 2, 3), keepdim=True)
    relative = torch.where(peak > 0, evidence / peak.clamp_min(torch.finfo(peak.dtype).tiny), 0.0)
    score = torch.from_numpy(loaded.score(logit.cpu().numpy()).astype(np.float32)).to(relative.device)
    return relative * score[:, None, None, None]


_free: weakref.WeakKeyDictionary[Detector, list[tuple[list[int], Detector]]] = weakref.WeakKeyDictionary()
_lock = threading.Lock()
"""Copies that nobody uses, with the places of their weights; and who may look there."""


@contextmanager
def private_copy(detector: Detector) -> Iterator[Detector]:
    """A copy to take gradients in: no other thread's pass goes through its hooks, and its weights, the very ones of the
    detector, need none. Making one takes as long as a pass does, so it is kept for the next who asks."""
    places = [tensor.data_ptr() for tensor in (*detector.parameters(), *detector.buffers())]
    with _lock:
        fitting = [one for made, one in _free.pop(detector, []) if made == places]
        ours = fitting.pop() if fitting else None
        _free[detector] = [(places, one) for one in fitting]
    if ours is None:
        ours = _copied(detector)
    yield ours
    with _lock:  # not after an error: a hook may be left in it
        _free[detector].append((places, ours))


def _copied(detector: Detector) -> Detector:
    same: dict[int, Any] = {id(one): nn.Parameter(one.detach(), False) for one in detector.parameters()}
    ours = copy.deepcopy(detector, same | {id(one): one.detach() for one in detector.buffers()})
    for module in ours.modules():
        if isinstance(module, nn.RNNBase):
            # CuDNN gives gradients through recurrent layers in training mode alone; without dropout it is the same.
            module.dropout = 0.0
            module.train()
    return ours


def _at_layer(detector: Detector, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The logits (B,), and activation and gradient at `cam_layer`, each (B, t, C, h, w)."""
    kept: list[Tensor] = []

    def cut(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
        # Gradients begin here: what lies before, all frames of a clip, need not be kept. A layer after this one may
        # write into its input, hence the copy.
        kept.append(output.detach().requires_grad_())
        return kept[-1].clone()

    layer = detector.cam_layer()
    assert layer is not None
    with torch.enable_grad():
        hook = layer.register_forward_hook(cut)
        logit = detector(batch.clone()).logit
        hook.remove()
        # Samples do not touch in evaluation mode: the gradient of the sum is each one's own.
        gradients = torch.autograd.grad(logit.sum(), kept)
    activation, gradient = (
        torch.cat([_by_frame(part.detach(), len(batch)) for part in parts], 1) for parts in (kept, gradients)
    )
    return logit.detach(), activation, gradient


def _by_frame(part: Tensor, count: int) -> Tensor:
    """A layer's output for `count` samples to (count, t, C, h, w).

    It is (B, C, h, w); (B * t, C, h, w), clip by clip, where the layer sees frames; or (B, C, t, h, w).
    """
    return part.transpose(1, 2) if part.ndim == 5 else part.unflatten(0, (count, -1))


def _by_library(kind: Kind, detector: Detector, batch: Tensor, activation: Tensor, gradient: Tensor) -> Tensor:
    """Another formula on the same activations and gradients, (B, t, h, w), before the negative is cut off."""
    library = _library("pytorch_grad_cam")
    method = getattr(library, _OF_THE_LIBRARY[kind])
    frames = [value.flatten(0, 1).float().cpu().numpy() for value in (activation, gradient)]
    with method(model=detector, target_layers=[detector.cam_layer()]) as cam:
        raw = cam.get_cam_image(batch, None, None, *frames, False)
    return torch.from_numpy(np.asarray(raw, np.float32)).to(activation.device).unflatten(0, activation.shape[:2])


def _library(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise NotExplained(
            "this needs the package grad-cam, which is not installed: pip install 'unmask-forensics[explain]'; "
            "grad-cam without ++ works without it"
        ) from None


ROAD_PERCENTILES = (20, 40, 60, 80)
"""Shares of the pixels, in per cent, that are removed and filled in."""


def road_score(
    loaded: LoadedDetector,
    samples: NDArray[Any],
    maps: NDArray[np.floating],
    percentiles: tuple[int, ...] = ROAD_PERCENTILES,
) -> NDArray[np.float32]:
    """How much the detector relies on what the maps mark, (N,): ROAD (Rong et al., ICML 2022, arXiv 2202.00449).

    The share of pixels that a map ranks lowest, or highest, is replaced by a noisy linear interpolation of the others;
    the score is half the difference between the logits that are left, mean over `percentiles`. Above 0 the marked
    pixels carry more of the evidence for fake than the rest; a map that says nothing scores about 0.

    `maps` (N, size, size), for clips (N, T, size, size). Equal values are ranked by chance, from a fixed seed. Raises
    NotExplained without the package grad-cam or for a detector of landmarks, ValueError for maps of another shape.
    """
    spec = loaded.detector.input
    if isinstance(spec, LandmarkInput):
        raise NotExplained(f"{loaded.detector.name} sees landmarks and no picture: ROAD removes pixels")
    face = spec.face if isinstance(spec, ClipInput) else spec
    frames = spec.length if isinstance(spec, ClipInput) else 1
    expected = (len(samples), *((frames,) if isinstance(spec, ClipInput) else ()), face.size, face.size)
    if maps.shape != expected:
        raise ValueError(f"the maps are {maps.shape} and should be {expected}, one for each picture")
    metric = _library("pytorch_grad_cam.metrics.road").ROADCombined(percentiles=list(percentiles))
    pictures = loaded.detector.prepare(samples).reshape(-1, 3, face.size, face.size)
    ranks = _ranks(maps.reshape(len(pictures), -1)).reshape(len(pictures), face.size, face.size)
    model = _Frames(loaded.detector, frames if isinstance(spec, ClipInput) else None)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = metric(pictures, ranks, [_only] * len(pictures), model)
    return np.asarray(found, np.float32).reshape(-1, frames)[:, 0]


def _only(output: Tensor) -> Tensor:
    return output[0]


class _Frames(nn.Module):
    """A detector as ROAD wants it: pictures in, a column of logits out; all pictures of a clip have the clip's."""

    def __init__(self, detector: Detector, frames: int | None) -> None:
        super().__init__()
        self.detector, self.frames = detector, frames

    def forward(self, pictures: Tensor) -> Tensor:
        batch = pictures if self.frames is None else pictures.unflatten(0, (-1, self.frames))
        return self.detector(batch).logit[:, None].repeat_interleave(self.frames or 1, 0)


def _ranks(maps: NDArray[np.floating]) -> NDArray[np.float32]:
    """Each row's values replaced by their ranks, 0 to 1: ROAD removes a percentile, which ties would make any size."""
    chance = np.random.default_rng(0).random(maps.shape)
    order = np.lexsort((chance, maps), axis=1)
    ranks = np.empty(maps.shape, np.float32)
    np.put_along_axis(ranks, order, np.linspace(0, 1, maps.shape[1], dtype=np.float32)[None], axis=1)
    return ranks
