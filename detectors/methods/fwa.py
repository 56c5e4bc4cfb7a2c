"""FWA and DSP-FWA: traces of a low-resolution face warped into a picture (Li and Lyu, CVPRW 2019, arXiv 1811.00656)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from detectors import backbone
from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta
from detectors.checkpoints import INDEX_SUFFIX, CheckpointError, match_state, one_file, read_torch, set_aside, tensor
from detectors.registry import register
from detectors.tf_checkpoint import is_table, open_bundle
from preprocessing.inputs import FaceInput

PYRAMID = (1, 2, 6)
"""Cells along each axis, level by level: 41 cells in all."""
MEAN = (123.68 / 255, 116.779 / 255, 103.939 / 255)
STD = (0.229, 0.224, 0.225)
"""Red, green, blue; the published networks take 255 (value - MEAN), blue first, ImageNet's weights a unit deviation."""
REGIONS = 10
RESNET_WIDTH = 2048


class FWAConfig(DetectorConfig):
    """Which network, and the crop that it sees."""

    arch: Literal["spp_resnet50", "resnet50", "spp_mobilenetv1"] = Field(
        default="spp_resnet50", description="DSP-FWA; the first FWA's ResNet-50 v1; the pyramid above a small backbone"
    )
    size: int = Field(default=224, ge=96, multiple_of=32, description="pixels; the published networks take 224")
    margin: float = Field(
        default=1.15, ge=1.0, le=3.0, description="side of the crop over the longer side of the landmark box"
    )

    @property
    def side(self) -> int:
        """Of the last feature map, in its cells."""
        return self.size // (16 if self.arch == "spp_mobilenetv1" else 32)

    @model_validator(mode="after")
    def _pyramid_fits(self) -> FWAConfig:
        if self.arch != "resnet50" and any(_cells(self.side, level) != level for level in PYRAMID):
            raise ValueError(
                f"{self.size} px give a map of {self.side} cells, on which the pyramid's windows do not make "
                f"{PYRAMID} cells; 192 and 224 px work"
            )
        return self


def _window(side: int, level: int) -> tuple[int, int]:
    """Kernel and stride that divide `side` cells into about `level` (the published rule)."""
    return -(-side // level), side // level


def _cells(side: int, level: int) -> int:
    kernel, stride = _window(side, level)
    return (side - kernel) // stride + 1 if stride else 0


class SpatialPyramid(nn.Module):
    """Maxima over 1, 2 x 2 and 6 x 6 windows: (B, C, side, side) to (B, 41 C), level by level, channel by channel."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.MaxPool2d(*_window(side, level)) for level in PYRAMID)

    def forward(self, maps: Tensor) -> Tensor:
        return torch.cat([level(maps).flatten(1) for level in self.levels], 1)


def landmark_region(
    points: NDArray[np.floating], width: int, height: int, dx: int, dy: int
) -> tuple[int, int, int, int]:
    """The published region of interest: left, top, right, bottom in pixels of the frame, right and bottom outside it.

    `points` (68, 2) in pixels. `dx` widens the landmarks' box on both sides, `dy` above and half of it below.
    """
    (x1, y1), (x2, y2) = points[:68].min(axis=0), points[:68].max(axis=0)
    return (
        int(max(0, x1 - dx)),
        int(max(0, y1 - dy)),
        int(min(width - 1, x2 + dx)),
        int(min(height - 1, y2 + dy / 2)),
    )


def face_regions(
    points: NDArray[np.floating], width: int, height: int, count: int = REGIONS
) -> list[tuple[int, int, int, int]]:
    """The regions that a published face score is made from, drawn with NumPy's legacy generator, seeds 0 to count - 1.

    dx is below an eighth of the landmarks' width, dy below a fifth of their height; 0 where a small face leaves no
    choice (the published code fails there).
    """
    extent = points[:68].max(axis=0) - points[:68].min(axis=0)
    limits = [max(int(extent[0] / 8), 1), max(int(extent[1] / 5), 1)]
    regions = []
    for seed in range(count):
        random = np.random.RandomState(seed)  # one of its own: the published code seeds the whole program's
        dx, dy = (int(random.randint(0, limit)) for limit in limits)
        regions.append(landmark_region(points, width, height, dx, dy))
    return regions


def face_score(scores: Sequence[float] | NDArray[np.floating]) -> float | None:
    """P(fake) of a face from those of its regions: the mean of the higher half; None without any."""
    values = np.sort(np.asarray(scores, np.float64))
    return float(values[len(values) // 2 :].mean()) if len(values) else None


def slim_resnet50() -> nn.Module:
    """TF-slim's ResNet-50 v1 without its head: (B, 3, H, W) to (B, 2048, H/32, W/32).

    Unlike torchvision's it halves the map in the last unit of a stage, not in the first of the next, and its padding
    of the stem's pooling is at the right and bottom only.
    """
    network = _resnet50()
    stages: list[Any] = [network.layer1, network.layer2, network.layer3, network.layer4]
    for stage, following in pairwise(stages):
        stage[-1].conv2.stride = (2, 2)
        stage[-1].downsample = nn.MaxPool2d(1, 2)
        following[0].conv2.stride = following[0].downsample[0].stride = (1, 1)
    network.maxpool = nn.MaxPool2d(3, 2, ceil_mode=True)
    return network


def _resnet50() -> Any:
    import timm  # heavy; only where a network is made

    return timm.create_model("resnet50", num_classes=0, global_pool="")


@register("fwa", paper=FWAConfig(), compact=FWAConfig(arch="spp_mobilenetv1", size=192))
class FWA(Detector):
    """A classifier trained on real faces and on the same after a blur and a warp. See docs/detectors.

    `embedding` is the map's maximum (its mean for "resnet50"). Parameters: spp_resnet50 23,675,970; resnet50
    23,512,130; spp_mobilenetv1 1,655,106.
    """

    meta = Meta(
        title="DSP-FWA",
        paper="Exposing DeepFake Videos By Detecting Face Warping Artifacts",
        year=2019,
        url="https://arxiv.org/abs/1811.00656",
        looks_at="Blur and resampling inside the face that its surroundings lack: a small face warped into place.",
        licence="published weights: CC BY-NC-SA 4.0",
    )
    config: FWAConfig

    def __init__(self, config: FWAConfig) -> None:
        super().__init__()
        self.config = config
        if config.arch == "spp_mobilenetv1":
            self.input = FaceInput(config.size, config.margin, mean=backbone.MEAN, std=backbone.STD)
            self.backbone: nn.Module = backbone.MobileNetV1()
            self.width = backbone.WIDTHS[3]
        else:
            self.input = FaceInput(config.size, config.margin, mean=MEAN, std=STD)
            self.backbone = slim_resnet50() if config.arch == "resnet50" else _resnet50()
            self.width = RESNET_WIDTH
        plain = config.arch == "resnet50"
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten()) if plain else SpatialPyramid(config.side)
        self.output = nn.Linear(self.width * (1 if plain else sum(n * n for n in PYRAMID)), 2)

    def forward(self, batch: Tensor) -> DetectorOutput:
        """(B, 3, size, size) RGB, as `prepare` makes it."""
        maps = self.backbone(batch)
        pooled = self.pool(maps[-1] if isinstance(maps, list) else maps)
        # The published networks' class 0 is fake.
        fake, real = self.output(pooled).unbind(1)
        return DetectorOutput(fake - real, embedding=pooled[:, : self.width])

    def cam_layer(self) -> nn.Module:
        """The last feature map."""
        network: Any = self.backbone
        layer: nn.Module = network.net.blocks[-1] if self.config.arch == "spp_mobilenetv1" else network.layer4
        return layer

    @staticmethod
    def track_logit(logits: NDArray[np.float32]) -> float:
        """Log-odds of the mean probability of the highest third of the scored frames, of one at least."""
        highest = np.sort(np.asarray(logits, np.float64))[-max(len(logits) // 3, 1) :]
        return float(np.logaddexp.reduce(-np.logaddexp(0, -highest)) - np.logaddexp.reduce(-np.logaddexp(0, highest)))

    @classmethod
    def import_checkpoint(cls, paths: Sequence[Path]) -> tuple[FWAConfig, dict[str, Tensor]]:
        """The authors' SPP-res50.pth, its two unused classifiers dropped; or the index of FWA's TensorFlow checkpoint.

        Those networks take blue first and unscaled pixels: the first kernels are turned round and scaled to suit ours.
        Raises CheckpointError for any other network.
        """
        path = one_file(paths, "fwa")
        slim = path.suffix.lower() == INDEX_SUFFIX or is_table(path)
        config = FWAConfig(arch="resnet50") if slim else FWAConfig()
        expected = cls(config).state_dict()
        state = _from_slim(path, expected) if slim else _from_torch(path)
        match_state(state, expected, path.name)
        state["backbone.conv1.weight"] = state["backbone.conv1.weight"].flip(1) * 255 * torch.tensor(STD)[:, None, None]
        return config, state


def _from_torch(path: Path) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for key, value in read_torch(path).items():
        if key.startswith(("resnet.resnet.fc.", "resnet.fc.")):
            set_aside(key)
            continue
        if key.startswith("classifier."):
            state[f"output.{key.removeprefix('classifier.')}"] = value
        else:
            state[f"backbone.{key.removeprefix('resnet.resnet.')}"] = value
    return state


SLIM = "resnet_v1_50"
_NORM = {"weight": "gamma", "bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
_SLIM_LEAVES = frozenset({"weights", "biases", *_NORM.values()})
_OURS = re.compile(r"backbone\.(?:layer(\d)\.(\d)\.)?(conv|bn|downsample\.)(\d)\.(\w+)")


def _slim_name(key: str) -> str:
    """TF-slim's name of one of our tensors."""
    if key.startswith("output."):
        return f"{SLIM}/logits/{'weights' if key.endswith('weight') else 'biases'}"
    found = _OURS.fullmatch(key)
    assert found is not None, key
    block, unit, part, number, leaf = found.groups()
    scope = f"block{block}/unit_{int(unit) + 1}/bottleneck_v1/" if block else ""
    layer = "shortcut" if part == "downsample." else f"conv{number}"
    norm = part == "bn" or (part == "downsample." and number == "1")
    return f"{SLIM}/{scope}{layer}/{'BatchNorm/' + _NORM[leaf] if norm else 'weights'}"


def _from_slim(path: Path, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """TF-slim keeps kernels as height, width, in, out, the last layer's too. What the optimiser left is not read."""
    bundle = open_bundle(path)
    if not any(name.startswith(f"{SLIM}/") for name in bundle.entries):
        scopes = ", ".join(list(dict.fromkeys(name.split("/")[0] for name in bundle.entries))[:6]) or "nothing"
        raise CheckpointError(
            f"{path.name} holds {scopes}; of FWA's TensorFlow networks {SLIM} is the one that is read"
        )
    counters = {key: value for key, value in expected.items() if key.endswith("num_batches_tracked")}
    ours = {_slim_name(key): key for key in expected if key not in counters}
    shapes = {name: _slim_shape(expected[key]) for name, key in ours.items()}
    found = {
        name: torch.empty(entry.shape, device="meta")
        for name, entry in bundle.entries.items()
        if name in ours or (name.startswith(f"{SLIM}/") and name.rsplit("/", 1)[1] in _SLIM_LEAVES)
    }
    match_state(found, {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}, path.name)
    set_aside(*(name for name in bundle.entries if name not in found))
    state = {key: tensor(bundle.read(name)) for name, key in ours.items()}
    kernels = {key: value.permute(3, 2, 0, 1).contiguous() for key, value in state.items() if value.ndim == 4}
    return counters | state | kernels | {"output.weight": kernels["output.weight"].flatten(1)}


def _slim_shape(ours: Tensor) -> tuple[int, ...]:
    if ours.ndim == 1:
        return tuple(ours.shape)
    outputs, inputs, *window = ours.shape
    return (*(window or (1, 1)), inputs, outputs)
