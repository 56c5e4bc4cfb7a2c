"""LRNet: two recurrent streams on calibrated landmarks (Sun et al., CVPR 2021, arXiv 2104.04480)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta, Truth
from detectors.checkpoints import (
    KERAS_SUFFIXES,
    CheckpointError,
    KerasLayer,
    match_state,
    read_keras,
    read_torch,
    tensor,
)
from detectors.registry import register
from preprocessing.inputs import LandmarkInput

FOREIGN_EXTRACTOR = "unknown/FAN"
"""Published weights do not say whose landmarks they saw; nothing here extracts such, so their scores are flagged."""


class LRNetConfig(DetectorConfig):
    """Which network, and the landmarks that its weights belong to: another extractor or spacing is another domain."""

    arch: Literal["torch", "keras"] = Field(
        default="torch", description="the authors' PyTorch network, or the Keras one that the paper describes"
    )
    length: int = Field(default=30, ge=2, description="frames in a clip; published: 30 in PyTorch, 60 in Keras")
    extractor: str = "dlib68"
    box_every: int = Field(default=4, ge=1, description="frames from one face detection to the next")
    fps: float | None = None


def clips(rows: NDArray[np.floating], length: int, compat: bool = False) -> NDArray[np.floating]:
    """Rows (N, 136) cut into consecutive clips (n, length, 136); clip k starts at row k * length.

    Rows after the last whole clip are left out. `compat` is the reference's rule, `start < N - length`, which also
    loses a whole clip at the very end.
    """
    count = len(rows) // length
    if compat and count and len(rows) % length == 0:
        count -= 1
    return rows[: count * length].reshape(count, length, rows.shape[1])


def vote_share(logits: NDArray[np.floating]) -> float:
    """The reference's video score: the share of clips with a score of at least one half. `logits` (N,), N >= 1."""
    return float(np.mean(np.asarray(logits) >= 0))


class LandmarkDropout(nn.Module):
    """Drops whole points: one mask of 68 a forward pass, the same for x and y, every frame and the whole batch."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, rows: Tensor) -> Tensor:
        if not self.training:
            return rows
        kept = torch.rand(68, device=rows.device) >= self.rate
        return rows * kept.repeat_interleave(2).to(rows.dtype) / (1 - self.rate)


class TorchStream(nn.Module):
    """One stream of the authors' PyTorch network: (B, T, 136) to class logits (B, 2) and features (B, 64).

    A bidirectional GRU of 32 units from a learned initial state, a residual block, a linear layer; 41,154 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.landmarks = LandmarkDropout(0.1)
        self.initial_state = nn.Parameter(torch.randn(2, 1, 32))
        self.gru = nn.GRU(136, 32, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.5)
        self.residual = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 64))
        self.output = nn.Linear(64, 2)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        start = self.initial_state.expand(-1, rows.shape[0], -1).contiguous()
        _, state = self.gru(self.landmarks(rows), start)
        features = self.dropout(torch.cat([state[0], state[1]], 1))
        features = features + self.residual(features)
        return self.output(self.dropout(features)), features


class KerasStream(nn.Module):
    """One stream of the Keras network: (B, T, 136) to class logits (B, 2) and features (B, 64).

    Dropout, a bidirectional GRU of 64 units from zero, a dense layer, a linear layer; 85,954 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.landmarks = nn.Dropout(0.25)
        self.gru = nn.GRU(136, 64, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(0.5)
        self.hidden = nn.Linear(128, 64)
        self.output = nn.Linear(64, 2)

    def forward(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        _, state = self.gru(self.landmarks(rows))
        features = functional.relu(self.hidden(self.dropout(torch.cat([state[0], state[1]], 1))))
        return self.output(self.dropout(features)), features


@register("lrnet", paper=LRNetConfig(arch="keras", length=60), compact=LRNetConfig())
class LRNet(Detector):
    """Stream g1 reads positions, g2 the differences between frames; the clip's probability is the mean of the two.

    `logit` is the log-odds of that mean. `aux["g1"]` and `aux["g2"]` (B, 2) are log-probabilities of real and fake.
    `embedding` (B, 128): the features of g1, then of g2.
    """

    meta = Meta(
        title="LRNet",
        paper="Improving the Efficiency and Robustness of Deepfakes Detection through Precise Geometric Features",
        year=2021,
        url="https://arxiv.org/abs/2104.04480",
        looks_at="How 68 points of the face move from frame to frame: jitter that real faces lack. Needs a video.",
        licence="published weights: MIT",
    )
    config: LRNetConfig
    streams: ClassVar[dict[str, type[TorchStream] | type[KerasStream]]] = {"torch": TorchStream, "keras": KerasStream}

    def __init__(self, config: LRNetConfig) -> None:
        super().__init__()
        self.config = config
        self.input = LandmarkInput(config.length, True, config.extractor, config.box_every, config.fps)
        self.g1 = self.streams[config.arch]()
        self.g2 = self.streams[config.arch]()

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, length, 136), x0, y0, ..., x67, y67 in LRNet's normalised space."""
        # Differences of a few thousandths: taken in double precision, as the reference does, then rounded once.
        motion = batch.double().diff(dim=1).to(batch.dtype)
        (first, first_features), (second, second_features) = self.g1(batch), self.g2(motion)
        g1, g2 = functional.log_softmax(first, 1), functional.log_softmax(second, 1)
        real, fake = torch.logaddexp(g1, g2).unbind(1)
        embedding = torch.cat([first_features, second_features], 1)
        return DetectorOutput(fake - real, embedding=embedding, aux={"g1": g1, "g2": g2})

    def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
        """Sum of both streams' cross entropies: each learns on its own, as in the paper."""
        fake = truth.label.to(output.logit.dtype)
        both = output.aux["g1"] + output.aux["g2"]
        return -(fake * both[:, 1] + (1 - fake) * both[:, 0]).mean()

    @staticmethod
    def track_logit(logits: NDArray[np.float32]) -> float:
        """Log-odds of the mean clip probability; see `vote_share` for the reference's score."""
        values = np.asarray(logits, np.float64)
        fake = np.logaddexp.reduce(-np.logaddexp(0, -values))
        real = np.logaddexp.reduce(-np.logaddexp(0, values))
        return float(fake - real)

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[LRNetConfig, dict[str, Tensor]]:
        """The authors' g1 and g2 files, PyTorch state dicts or Keras models; the file names tell the streams apart."""
        files = {}
        for stream in ("g1", "g2"):
            found = [p for p in paths if stream in p.stem.lower()]
            if len(found) != 1:
                names = ", ".join(p.name for p in paths) or "none"
                raise CheckpointError(f"LRNet needs one file named {stream} and has {len(found)}; files given: {names}")
            files[stream] = found[0]
        kinds = {path.suffix.lower() in KERAS_SUFFIXES for path in files.values()}
        if len(kinds) != 1:
            raise CheckpointError("g1 and g2 must be of one kind, both PyTorch or both Keras")
        keras = kinds.pop()
        read = _from_keras if keras else _from_torch
        state: dict[str, Tensor] = {}
        for stream, path in files.items():
            state |= {f"{stream}.{key}": value for key, value in read(path).items()}
        arch: Literal["torch", "keras"] = "keras" if keras else "torch"
        return LRNetConfig(arch=arch, length=60 if keras else 30, extractor=FOREIGN_EXTRACTOR, box_every=1), state


_RENAMED = {
    "hidden_state": "initial_state",
    "dense.1.fn.net.": "residual.",
    "dense.3.": "output.",
}


def _from_torch(path: Path) -> dict[str, Tensor]:
    state = {}
    for key, value in read_torch(path).items():
        for old, new in _RENAMED.items():
            if key.startswith(old):
                key = new + key.removeprefix(old)
                break
        state[key] = value
    match_state(state, TorchStream().state_dict(), path.name)
    return state


def _from_keras(path: Path) -> dict[str, Tensor]:
    layers = read_keras(path)
    kinds = [layer.kind for layer in layers]
    if kinds != ["bidirectional", "dense", "dense"] or [len(layer.weights) for layer in layers] != [6, 2, 2]:
        raise CheckpointError(
            f"{path.name} has the layers {', '.join(kinds)}; LRNet's Keras model has bidirectional, dense, dense"
        )
    recurrent, hidden, output = layers
    state = _gru(recurrent, 0, "") | _gru(recurrent, 3, "_reverse")
    for name, layer in (("hidden", hidden), ("output", output)):
        state |= {f"{name}.weight": tensor(layer.weights[0].T), f"{name}.bias": tensor(layer.weights[1])}
    match_state(state, KerasStream().state_dict(), path.name)
    return state


def _gru(layer: KerasLayer, first: int, suffix: str) -> dict[str, Tensor]:
    """Keras' gates stand in columns z, r, h, PyTorch's in rows r, z, n; row 0 of the bias is the input's, row 1 the
    recurrent one (reset_after)."""
    kernel, recurrent, bias = layer.weights[first : first + 3]
    if bias.ndim != 2 or bias.shape[1] % 3 or kernel.ndim != 2 or recurrent.ndim != 2:
        raise CheckpointError(f"layer {layer.name} is not a GRU with separate input and recurrent biases")

    def reorder(columns: NDArray[np.float32]) -> Tensor:
        z, r, h = np.split(columns, 3, axis=-1)
        return tensor(np.concatenate([r, z, h], axis=-1).T)

    return {
        f"gru.weight_ih_l0{suffix}": reorder(kernel),
        f"gru.weight_hh_l0{suffix}": reorder(recurrent),
        f"gru.bias_ih_l0{suffix}": reorder(bias[0]),
        f"gru.bias_hh_l0{suffix}": reorder(bias[1]),
    }
