"""Everything random of a batch of self-blends, drawn before any picture is touched: from one generator, or from one of
each picture, which then gets the same draw in whatever batch it comes.

The odds and ranges are those of `SbiDraw`, `SourceChange` and `PostAugmentation` (specs/blending.md, section 3), drawn
for the whole batch at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from preprocessing.blending.masks import HullKind
from preprocessing.blending.sbi import KERNELS, RELATIVE, SIGMAS, WORK_SIDES, SbiSettings

NUMBERS = 46
"""Uniform numbers that one picture's draw takes, without its noise."""
FIELD_BORDER = 8
"""Places of noise beyond the picture at every side, at a quarter of its resolution."""
SHRINK, SHIFT = 0.95, (0.03, 0.015)


def batch_generator(seed: int, epoch: int, step: int) -> torch.Generator:
    """The generator of a batch (or of a picture, `step` its number), on the CPU: three numbers decide it, not the
    worker nor the order."""
    state = np.random.SeedSequence([seed, epoch, step]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]) >> 1)


def moved(values: Tensor, device: torch.device) -> Tensor:
    """Values of the CPU on `device`, without waiting for what the device is doing."""
    if device.type == "cuda" and values.device.type == "cpu":
        values = values.pin_memory()
    return values.to(device, non_blocking=True)


class _Movable:
    def to(self, device: torch.device) -> Any:
        """The same draw with every tensor on `device`."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]
        place = {
            name: moved(value, device) if isinstance(value, Tensor) else value.to(device)
            for name, value in values.items()
            if isinstance(value, Tensor | _Movable)
        }
        return replace(self, **place)  # type: ignore[type-var]


@dataclass(frozen=True)
class ColourDraw(_Movable):
    """RGB offsets (B, 3) in levels, whether HSV is visited (B,) and drops (B, 3), factor and offset (B, 2)."""

    shift: Tensor
    hsv: Tensor
    drop: Tensor
    tone: Tensor


@dataclass(frozen=True)
class BatchDraw(_Movable):
    """One draw for B pictures. Where a change is left out its numbers are those that change nothing.

    `kinds` B hulls and `counts` B numbers of landmarks they use, on the host; `scale`, `shift` (B, 2) of the affine map
    in x and y, `sides` (B, 2) height and width of the feathered mask, `factor` (B,) 1, 2 or 4, `sharpness` (B, 2) alpha
    and lightness, `noise` (B, 2, h, w) in -1..1, `quality` (B,) of JPEG or 0, `reach` (B, 4) of the tight crop.
    """

    kinds: tuple[HullKind, ...]
    counts: tuple[int, ...]
    change: ColourDraw
    factor: Tensor
    sharpness: Tensor
    on_source: Tensor
    scale: Tensor
    shift: Tensor
    sides: Tensor
    kernels: Tensor
    sigma: Tensor
    ratio: Tensor
    noise: Tensor
    post: ColourDraw
    quality: Tensor
    flip: Tensor
    reach: Tensor

    @classmethod
    def draw(
        cls,
        shape: tuple[int, int],
        batch: int,
        count: int,
        generator: torch.Generator | Sequence[torch.Generator],
        settings: SbiSettings,
        device: torch.device,
        quality: tuple[int, int] = (40, 100),
    ) -> BatchDraw:
        """For `batch` pictures of `shape` (H, W) with `count` landmarks. `generator` is one of the CPU, or one for
        each picture; `noise` alone is drawn on `device`, by generators that these seed."""
        generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
        each = batch // len(generators)
        numbers = torch.cat([torch.rand(each, NUMBERS, generator=one) for one in generators])
        taken = 0

        def unit(*more: int) -> Tensor:
            nonlocal taken
            first, taken = taken, taken + math.prod(more)
            return numbers[:, first:taken].reshape(batch, *more)

        def uniform(low: float, high: float, *more: int) -> Tensor:
            return low + (high - low) * unit(*more)

        def chance(odds: float, *more: int) -> Tensor:
            return unit(*more) < odds

        def whole(low: int, high: int, *more: int) -> Tensor:
            return low + (unit(*more) * (high + 1 - low)).long()

        def colour(odds: tuple[float, float, float], limit: float) -> ColourDraw:
            tone = torch.stack([1 + uniform(-limit, limit), 255 * uniform(-limit, limit)], 1)
            same = torch.tensor([1.0, 0.0])
            return ColourDraw(
                uniform(-20, 20, 3) * chance(odds[0])[:, None],
                chance(odds[1]),
                chance(0.5, 3),
                torch.where(chance(odds[2])[:, None], tone, same),
            )

        lowers, twice = chance(0.5), chance(0.5)
        sharpness = torch.stack([uniform(0.2, 0.5) * ~lowers, uniform(0.5, 1)], 1)
        extents = torch.tensor([shape[1], shape[0]], dtype=torch.float32)
        ranges = side_ranges(shape, settings)
        ratios = torch.tensor(settings.ratios, dtype=torch.float32)
        only_68 = chance(settings.only_68)
        places = [math.ceil(n / 4) + 2 * FIELD_BORDER for n in shape]
        on_device = torch.Generator(device)
        noise = []
        for one in generators:
            on_device.manual_seed(int(torch.randint(2**62, (1,), generator=one)))
            noise.append(torch.rand(each, 2, *places, generator=on_device, device=device))
        return cls(
            tuple(settings.hulls[k] for k in whole(0, len(settings.hulls) - 1).tolist()),
            tuple(68 if fewer else count for fewer in only_68.tolist()),
            colour((0.3, 1.0, 1.0), 0.1),
            torch.where(lowers, torch.where(twice, 2, 4), 1),
            sharpness,
            chance(0.5),
            uniform(SHRINK, 1 / SHRINK, 2),
            uniform(-1, 1, 2) * torch.tensor(SHIFT) * extents,
            torch.stack([whole(*ranges[0]), whole(*ranges[1])], 1),
            torch.tensor(KERNELS)[whole(0, len(KERNELS) - 1, 2)],
            whole(*SIGMAS).float(),
            ratios[whole(0, len(ratios) - 1)],
            2 * torch.cat(noise) - 1,
            colour((0.3, 0.3, 0.3), 0.3),
            whole(*quality) * chance(0.5),
            chance(0.5),
            uniform(0.2, 0.8, 4),
        )


def side_ranges(shape: tuple[int, int], settings: SbiSettings) -> tuple[tuple[int, int], tuple[int, int]]:
    """Smallest and largest height and width at which a mask is feathered."""
    if not settings.relative_sides:
        return WORK_SIDES, WORK_SIDES
    rows, columns = ((max(int(RELATIVE * n), 1), max(int(n / RELATIVE) - 1, 1)) for n in shape)
    return rows, columns
