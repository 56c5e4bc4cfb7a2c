"""Detectors that misbehave, registered like any other: the graph imports this module by its `modules` argument."""

import time

import torch
from torch import Tensor, nn

from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta
from detectors.registry import register
from preprocessing.inputs import FaceInput

SLEEP_S = 60.0


class _Faulty(Detector):
    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        self.input = FaceInput(size=16)
        self.scale = nn.Parameter(torch.ones(1))


@register("broken", paper=DetectorConfig(), compact=DetectorConfig())
class Broken(_Faulty):
    """Fails at every picture."""

    meta = Meta("Broken", "none", 2000, "", "nothing", "none")

    def forward(self, batch: Tensor) -> DetectorOutput:
        raise RuntimeError("this detector is broken on purpose")


@register("slow", paper=DetectorConfig(), compact=DetectorConfig())
class Slow(_Faulty):
    """Sleeps over every picture that is not black."""

    meta = Meta("Slow", "none", 2000, "", "nothing", "none")

    def forward(self, batch: Tensor) -> DetectorOutput:
        if bool(batch.any()):
            time.sleep(SLEEP_S)
        return DetectorOutput(self.scale * batch.mean((1, 2, 3)))
