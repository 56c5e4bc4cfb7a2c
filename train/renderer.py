"""Trains the small autoencoders that draw rendered pseudo-fakes (preprocessing/blending/rendered.py).

    python -m train.renderer PACK --backbone mobilenetv1_100.imagenet.safetensors

One after another, each from patches of packed real faces at many sizes, for likeness in colour and, with a backbone,
in its features (Johnson et al., ECCV 2016): without those what is drawn is only blurred.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from preprocessing.blending.rendered import CODECS, FACE_SIDES, RENDERER, Codec, packed_codecs
from preprocessing.crops import face_square
from train.faces import FacePack

PATCH = 64
BATCH = 16
RATE = 2e-3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Likeness(nn.Module):
    """Mean absolute difference of colours and of a frozen network's features at half, quarter and eighth resolution."""

    def __init__(self, backbone: Path | None) -> None:
        super().__init__()
        self.net: nn.Module | None = None
        if backbone is not None:
            full = timm.create_model("mobilenetv1_100")
            full.load_state_dict(load_file(str(backbone)), strict=False)
            net = timm.create_model("mobilenetv1_100", features_only=True, out_indices=(0, 1, 2))
            net.load_state_dict(full.state_dict(), strict=False)
            self.net = net.eval().requires_grad_(False)
        self.scale = tuple(torch.tensor(one).view(1, 3, 1, 1) for one in (MEAN, STD))

    def forward(self, drawn: Tensor, given: Tensor) -> Tensor:
        loss = F.l1_loss(drawn, given)
        if self.net is None:
            return loss
        mean, std = self.scale
        found, wanted = (self.net((one - mean) / std) for one in (drawn, given))
        for here, there in zip(found, wanted, strict=True):
            loss = loss + 0.1 * F.l1_loss(here, there) / (there.abs().mean() + 1e-6)
        return loss


class Patches(torch.utils.data.Dataset[Tensor]):
    """(3, PATCH, PATCH) uint8 of a face that is FACE_SIDES large."""

    def __init__(self, pack: FacePack, count: int, seed: int) -> None:
        self.pack, self.count, self.seed = pack, count, seed

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Tensor:
        rng = np.random.default_rng([self.seed, index])
        row = int(rng.integers(len(self.pack)))
        image, points = self.pack.image(row), self.pack.points[row]
        scale = min(float(rng.uniform(*FACE_SIDES)) / face_square(points, 1.0)[2], 1.2)
        scale = max(scale, (PATCH + 1) / min(image.shape[:2]))
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        top, left = (int(rng.integers(0, side - PATCH + 1)) for side in small.shape[:2])
        patch = small[top : top + PATCH, left : left + PATCH]
        if rng.random() < 0.5:
            patch = patch[:, ::-1]
        return torch.from_numpy(np.ascontiguousarray(patch.transpose(2, 0, 1)))


def _one_thread() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)


def train_codec(number: int, faces: Path, backbone: Path | None, steps: int, seed: int) -> Codec:
    """One of CODECS after `steps` batches; its loss is printed every 100."""
    pack, likeness = FacePack.load(faces), Likeness(backbone)
    torch.manual_seed(seed + number)
    codec = Codec(CODECS[number]).to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(codec.parameters(), RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=steps, pct_start=0.1)
    loader = torch.utils.data.DataLoader(Patches(pack, steps * BATCH, seed + number), BATCH, num_workers=0)
    told = 0.0
    for step, batch in enumerate(loader, 1):
        given = batch.float().div_(255).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):
            loss = likeness(codec(given), given)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        told += float(loss.detach())
        if step % 100 == 0:
            print(f"{CODECS[number]}: step {step} of {steps}, loss {told / 100:.4f}", flush=True)
            told = 0.0
    return codec


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; 0, or 2 after a message."""
    parser = argparse.ArgumentParser(prog="python -m train.renderer", description=__doc__.splitlines()[0])
    parser.add_argument("pack", type=Path, help="faces of `python -m train.faces pack`")
    parser.add_argument("--backbone", type=Path, help="ImageNet weights of timm's mobilenetv1_100")
    parser.add_argument("--out", type=Path, default=RENDERER)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    for path in (given.pack, given.backbone):
        if path is not None and not path.is_file():
            print(f"there is no file {path}", file=sys.stderr)
            return 2
    numbers = range(len(CODECS))
    with ProcessPoolExecutor(min(len(CODECS), os.cpu_count() or 1), get_context("spawn"), _one_thread) as pool:
        common = [[value] * len(CODECS) for value in (given.pack, given.backbone, given.steps, given.seed)]
        codecs = list(pool.map(train_codec, numbers, *common))
    tensors, metadata = packed_codecs(codecs)
    save_file(tensors, str(given.out), metadata)
    print(f"{given.out}: {given.out.stat().st_size / 1e6:.2f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
