"""Self-blended pairs made where the network is: the loader gives real crops, the device blends a whole batch at once.

For GPUs whose CPU cores cannot make fakes as fast as they train. Only self-blended images (SBI) are made this way, with
their own changes of colour and JPEG; the other families, lower resolution and H.264 are data.kind images'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor

from detectors.base import Detector, Truth
from preprocessing.blending import sample_rng
from preprocessing.blending.gpu import sbi_batch
from preprocessing.blending.gpu_draw import batch_generator
from preprocessing.crops import crop_transform, face_input, face_square
from preprocessing.inputs import FaceInput
from train import faces as packs
from train.real_faces import RealFaces, Rows, packed
from train.recipe import DataSplits, EpochDataset, Recipe, RecipeError
from train.shared_settings import CropSettings, PackSettings


class Settings(PackSettings, CropSettings):
    """Which faces, and how their crops differ."""

    pack: Path | None = Field(default=None, description=f"packed faces; default {packs.PACK}, made from --data")
    post: bool = Field(default=True, description="SBI's changes of colour and JPEG after the blend, for both alike")


class DevicePairs(EpochDataset):
    """Item: `crop` (1, size, size, 3) uint8 of a real face, its `points` (1, 81, 2), its `number` (1,), and the `label`
    (2,) of the pair that `finish` makes of it."""

    def __init__(self, faces: RealFaces, rows: Rows, spec: FaceInput, settings: Settings, seed: int) -> None:
        self.faces, self.rows, self.spec, self.settings, self.seed = faces, rows, spec, settings, seed

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = sample_rng(self.seed, self.epoch, index)
        image, points = self.faces.face(int(self.rows[index]))
        jitter = 1 + float(rng.uniform(-self.settings.margin_jitter, self.settings.margin_jitter))
        spec = replace(self.spec, margin=self.spec.margin * jitter)
        side = face_square(points[:68], 1.0)[2]
        centred = points[:68] + side * rng.uniform(-self.settings.shift_jitter, self.settings.shift_jitter, 2)
        matrix = crop_transform(centred, spec)
        there = points @ matrix[:, :2].T + matrix[:, 2]
        return {
            "crop": face_input(image, (0, 0), centred, spec)[None],
            "points": there[None].astype(np.float32),
            "number": np.array([index], np.int64),
            "label": np.array([0, 1], np.float32),
        }

    def finish(
        self,
        given: dict[str, Tensor],
        device: str,
        targets: Callable[[NDArray[np.float32]], dict[str, NDArray[np.float32]]] | None,
    ) -> tuple[Tensor, Truth]:
        """Real and fake crops (2 B, size, size, 3) uint8 in turn on `device`, and their truth.

        An item's number and the epoch decide its draw, whoever shares its batch: any number of workers makes the same
        samples. A method's own targets are made on the host, which waits.
        """
        numbers = given["number"]
        generators = [batch_generator(self.seed, self.epoch, number) for number in numbers.tolist()]
        crops, size = given["crop"].to(device), self.spec.size
        made = sbi_batch(crops, given["points"], generators, size=size, tight=False, post=self.settings.post)
        pairs = torch.stack([made.reals, made.fakes], 1).flatten(0, 1).permute(0, 2, 3, 1)
        masks = torch.stack([torch.zeros_like(made.masks), made.masks], 1).flatten(0, 1)
        maps: dict[str, Tensor] = {}
        if targets is not None:
            each = [targets(mask) for mask in masks.cpu().numpy()]
            maps = {name: torch.from_numpy(np.stack([one[name] for one in each])) for name in each[0]}
        rows = torch.from_numpy(self.rows[numbers.numpy()])
        return pairs, Truth(given["label"], None, rows.repeat_interleave(2), maps).to(device)


def build(settings: Settings, recipe: Recipe, detector: Detector, data: Path | None) -> DataSplits:
    """Training and validation pairs of a pack, no person or source in both.

    Raises:
        RecipeError: a detector of other input, or no faces.
        LeakError: both sides share a face.
    """
    spec = detector.input
    if not isinstance(spec, FaceInput) or spec.align != "none":
        raise RecipeError(
            f"recipe {recipe.name}: data.kind device_pairs gives face crops that are not turned, and {recipe.detector}"
            " takes something else"
        )
    path = data if data is not None and data.is_file() else settings.pack or packs.PACK
    shared = {key: getattr(settings, key) for key in ("held_out", "validation_items", "per_dataset", "allow_leaks")}
    faces, train, validation, summary = packed(path, data, packs.Settings(**shared), recipe.seed)
    return DataSplits(
        DevicePairs(faces, train, spec, settings, recipe.seed),
        DevicePairs(faces, validation, spec, settings, recipe.seed + 1),
        summary | {"families": {"sbi": 1.0}},
    )
