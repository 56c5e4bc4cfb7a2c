"""The optimiser's settings and the learning rate of each step: pure functions, no torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from preprocessing.settings import Strict

Schedule = Literal["cosine", "constant", "linear", "poly", "step", "multistep", "exponential", "plateau"]


class Optimiser(Strict):
    """How the weights move."""

    name: Literal["adam", "adamw", "nadam", "sgd"] = "adam"
    lr: float = Field(default=1e-3, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    momentum: float = Field(default=0.9, ge=0, lt=1, description="sgd only")
    schedule: Schedule = "cosine"
    warmup: float = Field(default=0.0, ge=0, lt=1, description="share of all steps over which lr rises")
    warmup_from: float = Field(default=0.0, ge=0, lt=1, description="share of lr from which it rises")
    hold: float = Field(
        default=0.0, ge=0, lt=1, description="cosine, linear, poly: share of all steps, the warm-up among them, at lr"
    )
    restart: int | None = Field(default=None, ge=1, description="cosine: epochs after which it starts again")
    power: float = Field(default=0.9, gt=0, description="poly only")
    gamma: float = Field(
        default=0.1, gt=0, lt=1, description="step, multistep, exponential, plateau: each fall's factor"
    )
    every: int | None = Field(default=None, ge=1, description="step: optimiser steps from fall to fall")
    milestones: tuple[int, ...] = Field(default=(), description="multistep: finished epochs after which lr falls")
    patience: int = Field(default=10, ge=1, description="plateau: epochs without a better validation until lr falls")
    min_lr: float = Field(default=0.0, ge=0, description="where falling ends")
    clip: float | None = Field(default=None, gt=0, description="largest norm of the gradient")
    sam: float | None = Field(default=None, gt=0, description="rho of sharpness-aware minimisation; null: without")
    layer_decay: float | None = Field(
        default=None, gt=0, le=1, description="lr of a layer as a share of the next one's; the last learns at lr"
    )
    groups: dict[str, float] = Field(
        default={}, description="factors of lr by prefix of the parameters' names; the longest that fits counts"
    )

    @model_validator(mode="after")
    def _complete(self) -> Optimiser:
        if self.schedule == "step" and self.every is None:
            raise ValueError("schedule step needs every, the steps from fall to fall")
        if self.schedule == "multistep" and not (self.milestones and min(self.milestones) > 0):
            raise ValueError("schedule multistep needs milestones, epochs above 0 after which lr falls")
        if self.restart is not None and (self.schedule != "cosine" or self.warmup or self.hold):
            raise ValueError("restart goes with schedule cosine, without warmup and hold")
        if self.min_lr > self.lr:
            raise ValueError(f"min_lr {self.min_lr:g} is above lr {self.lr:g}")
        if min(self.groups.values(), default=1) <= 0:
            raise ValueError("groups takes factors above 0; what is not to learn belongs into freeze")
        return self


def learning_rate(settings: Optimiser, step: int, each: int, epochs: int, falls: int = 0) -> float:
    """Of optimiser step `step` (from 0) of `epochs` epochs of `each` steps; `falls` as `plateaus` counts them."""
    last = epochs * each
    warm = settings.warmup * last
    if step < warm:
        return settings.lr * (settings.warmup_from + (1 - settings.warmup_from) * (step + 1) / warm)
    if settings.schedule in ("step", "multistep", "exponential", "plateau"):
        return max(settings.lr * settings.gamma ** _falls(settings, step, each, falls), settings.min_lr)
    start, end, at = max(warm, settings.hold * last), last, step
    if settings.restart is not None:
        start, end, at = 0, settings.restart * each, step % (settings.restart * each)
    passed = min(max(at - start, 0) / max(end - start, 1), 1.0)
    if settings.schedule == "cosine":
        left = 0.5 * (1 + math.cos(math.pi * passed))
    elif settings.schedule == "constant":
        left = 1.0
    else:
        left = (1 - passed) ** (settings.power if settings.schedule == "poly" else 1.0)
    return settings.min_lr + (settings.lr - settings.min_lr) * left


def _falls(settings: Optimiser, step: int, each: int, falls: int) -> int:
    if settings.schedule == "step":
        assert settings.every is not None
        return step // settings.every
    epoch = step // each
    if settings.schedule == "multistep":
        return sum(epoch >= milestone for milestone in settings.milestones)
    return epoch if settings.schedule == "exponential" else falls


def plateaus(merits: Sequence[float], patience: int) -> int:
    """How often `patience` epochs in a row brought nothing better; `merits` of the finished epochs, more is better.

    What resuming needs is in the epochs' figures alone.
    """
    best, waited, count = -math.inf, 0, 0
    for merit in merits:
        if merit > best:
            best, waited = merit, 0
        else:
            waited += 1
        if waited == patience:
            waited, count = 0, count + 1
    return count


def waited(merits: Sequence[float]) -> int:
    """Epochs since the first best one."""
    return len(merits) - 1 - max(range(len(merits)), key=lambda i: (merits[i], -i)) if merits else 0
