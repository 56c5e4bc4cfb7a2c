"""Pairs of a real face and a pseudo-fake of it, for every detector that takes single face crops.

Families of pseudo-fakes are drawn by their odds (preprocessing/blending/registry.py); any can be held out by name.
Real faces come from a pack (`python -m train.faces pack --data DIR`) or from a prepared set (`unmask prepare`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from detectors.base import Detector
from preprocessing.blending import BlendError, Degradation, Face, Mixture, PartnerIndex, PostAugmentation, sample_rng
from preprocessing.blending.pseudofake import PseudoFake
from preprocessing.blending.registry import generator, make
from preprocessing.crops import crop_transform, face_input, face_square
from preprocessing.inputs import FaceInput
from preprocessing.perturb.video import recompress
from preprocessing.types import Image, Points
from train import faces as packs
from train.moving_stills import mirrored
from train.real_faces import FRAME, PreparedFaces, RealFaces, Rows, packed, prepared
from train.recipe import DataSplits, EpochDataset, Recipe, RecipeError
from train.shared_settings import ChangeSettings, PackSettings

TRIES = 5
"""Faces that are tried, one after another, where nothing can be blended."""


class Settings(PackSettings, ChangeSettings):
    """Which faces, which pseudo-fakes, and what is done to real and fake alike."""

    pack: Path | None = Field(default=None, description=f"packed faces; default {packs.PACK}, made from --data")
    prepared: str | None = Field(default=None, description="a prepared set; --data may name one too")
    without: frozenset[str] = Field(default=frozenset(), description="quality flags that leave out a prepared face")
    families: dict[str, float] = Field(default={"sbi": 1.0}, description="odds of the families of pseudo-fakes")
    hold_out: tuple[str, ...] = Field(default=(), description="families that are left out whatever their odds")
    own_fakes: float = Field(
        default=0.0, ge=0, le=1, description="odds that the fake is one of a prepared set's own instead"
    )
    candidates: int | None = Field(
        default=5000, ge=1, description="bi: the nearest of so many random faces; null: any of the `keep` nearest"
    )
    keep: int = Field(default=100, ge=1, description="bi: nearest faces of other people that are kept for each")

    @model_validator(mode="after")
    def _some_known_family(self) -> Settings:
        _ = self.mixture
        return self

    @property
    def mixture(self) -> Mixture:
        """What can be drawn. Raises BlendError for an unknown family, with the near miss."""
        for name in (*self.families, *self.hold_out):
            generator(name)
        left = {name: odds for name, odds in self.families.items() if name not in self.hold_out}
        if sum(left.values()) <= 0 or min(left.values()) < 0:
            raise BlendError("families needs odds of at least 0, one of them above 0 that is not held out")
        return Mixture(odds=left)


@dataclass(frozen=True)
class Changes:
    """What real and fake go through alike after the blend, drawn once for both."""

    post: PostAugmentation | None
    worse: Degradation | None
    crf: int | None
    spec: FaceInput
    shift: NDArray[np.float64]

    @classmethod
    def draw(cls, rng: np.random.Generator, spec: FaceInput, chosen: Settings) -> Changes:
        """Everything is drawn whether it is used or not, so that a setting moves no other draw."""
        post = PostAugmentation.draw(rng)
        worse = Degradation.draw(rng, chosen.face_sides, chosen.qualities)
        margin = spec.margin * (1 + float(rng.uniform(-chosen.margin_jitter, chosen.margin_jitter)))
        shift = rng.uniform(-chosen.shift_jitter, chosen.shift_jitter, 2)
        coded, crf = rng.random() < chosen.h264, int(rng.integers(chosen.crfs[0], chosen.crfs[1] + 1))
        return cls(
            post if chosen.post else None,
            worse if chosen.degrade else None,
            crf if coded else None,
            replace(spec, margin=margin),
            shift,
        )

    def crop(self, image: Image, points: Points) -> Image:
        """The detector's crop of a changed picture whose landmarks are `points`."""
        changed, factor, side = image, 1.0, face_square(points[:68], 1.0)[2]
        if self.post is not None:
            changed = self.post(changed)
        if self.worse is not None:
            changed, factor = self.worse(changed, side)
        if self.crf is not None:
            (changed,) = recompress([changed], self.crf)
        # Pixel centres are at whole coordinates on both sides of the resize.
        return face_input(changed, (0, 0), (self._moved(points) + 0.5) * factor - 0.5, self.spec)

    def mask(self, mask: NDArray[np.float32], points: Points) -> NDArray[np.float32]:
        """The mask (H, W) in the same crop, (size, size)."""
        weights: Any = mask
        cut: Any = face_input(weights, (0, 0), self._moved(points), self.spec)
        return np.clip(np.asarray(cut, np.float32), 0, 1)

    def _moved(self, points: Points) -> Points:
        side = face_square(points[:68], 1.0)[2]
        return np.asarray(points[:68] + side * self.shift, np.float32)


class FamilyPairs(EpochDataset):
    """Item: `inputs` (2, size, size, 3) uint8, a real crop and its fake; `label` 0 and 1; `mask` (2, size, size), the
    blend's weights before its ratio; `source` twice the face's number.

    With `own_fakes` there is no `mask`, because a data set's fakes have none that tells of a blend.
    """

    def __init__(
        self,
        faces: RealFaces,
        rows: Rows,
        spec: FaceInput,
        settings: Settings,
        seed: int,
        fakes: PreparedFaces | None = None,
    ) -> None:
        """Ranks each face's partners among `rows` where a family blends two people.

        Raises RecipeError where it does and all faces are of one person.
        """
        self.faces, self.rows, self.spec = faces, rows, spec
        self.settings, self.mixture, self.seed, self.fakes = settings, settings.mixture, seed, fakes
        self.partners: PartnerIndex | None = None
        if self.mixture.needs_partner:
            try:
                self.partners = PartnerIndex(faces.framed()[rows], faces.sources[rows], settings.keep)
            except BlendError as error:
                raise RecipeError(f"family bi: {error}; hold it out, or give faces of more people") from error

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = sample_rng(self.seed, self.epoch, index)
        place = index
        for left in reversed(range(TRIES)):
            try:
                return self._item(place, rng)
            except BlendError:
                if not left:
                    raise
                place = int(rng.integers(len(self)))
        raise AssertionError("unreachable")

    def _item(self, place: int, rng: np.random.Generator) -> dict[str, Any]:
        row = int(self.rows[place])
        flipped = bool(rng.random() < self.settings.flip)
        image, points = mirrored(*self.faces.face(row), flipped)
        both = {"label": np.array([0, 1], np.float32), "source": np.full(2, row, np.int64)}
        if self.fakes is not None and rng.random() < self.settings.own_fakes:
            assert isinstance(self.faces, PreparedFaces)
            other, there = mirrored(*self.fakes.face(self.fakes.draw(self.faces.path(row), rng)), flipped)
            change = Changes.draw(rng, self.spec, self.settings)
            return {"inputs": np.stack([change.crop(image, points), change.crop(other, there)]), **both}
        pair = self._blended(place, image, points, flipped, rng)
        change = Changes.draw(rng, self.spec, self.settings)
        inputs = np.stack([change.crop(pair.real, pair.points), change.crop(pair.fake, pair.points)])
        if self.fakes is not None:
            return {"inputs": inputs, **both}
        mask = change.mask(pair.mask, pair.points)
        return {"inputs": inputs, "mask": np.stack([np.zeros_like(mask), mask]), **both}

    def _blended(self, place: int, image: Image, points: Points, flipped: bool, rng: np.random.Generator) -> PseudoFake:
        family = self.mixture.draw(rng)
        if not generator(family).needs_partner:
            return make(family, image, points, rng)
        assert self.partners is not None
        chosen = int(self.rows[self.partners.draw(place, rng, self.settings.candidates)])
        other, there = mirrored(*self.faces.face(chosen), flipped)
        # Both in one framing, at the resolution of the face that is changed.
        side = float(np.clip(face_square(points[:68], FRAME.margin)[2], 64, FRAME.size))
        frame = replace(FRAME, size=round(side))
        target, partner = _framed(image, points, frame), _framed(other, there, frame)
        return make(family, target.image, target.points, rng, partner)


def _framed(image: Image, points: Points, frame: FaceInput) -> Face:
    matrix = crop_transform(points[:68], frame)
    there = np.asarray(points @ matrix[:, :2].T + matrix[:, 2], np.float32)
    return Face(face_input(image, (0, 0), points[:68], frame), there)


def build(settings: Settings, recipe: Recipe, detector: Detector, data: Path | None) -> DataSplits:
    """Training and validation pairs, no person or source in both.

    `data`: a pack, a prepared set's folder, or a folder of real pictures and videos that is packed first.

    Raises:
        RecipeError: a detector of other input, no faces, crops too tight for the detector, or own fakes where there are
            none or where the detector learns from blending masks.
    """
    spec = detector.input
    if not isinstance(spec, FaceInput):
        raise RecipeError(
            f"recipe {recipe.name}: data.kind images gives face crops, {recipe.detector} takes {type(spec).__name__}"
        )
    place = settings.prepared
    if place is None and data is not None and (data / "prepared.json").is_file():
        place = str(data)
    if place is not None:
        splits = _from_set(place, settings, recipe, detector, spec)
    elif settings.own_fakes:
        raise RecipeError(f"recipe {recipe.name}: data.settings.own_fakes takes a prepared set with fakes, not a pack")
    else:
        splits = _from_pack(settings, recipe, spec, data)
    splits.summary |= {"families": settings.mixture.odds, "held out": sorted(settings.hold_out)}
    return splits


def _from_pack(settings: Settings, recipe: Recipe, spec: FaceInput, data: Path | None) -> DataSplits:
    path = data if data is not None and data.is_file() else settings.pack or packs.PACK
    chosen = packs.Settings(
        held_out=settings.held_out,
        validation_items=settings.validation_items,
        per_dataset=settings.per_dataset,
        allow_leaks=settings.allow_leaks,
    )
    faces, train, validation, summary = packed(path, data, chosen, recipe.seed)
    return DataSplits(
        FamilyPairs(faces, train, spec, settings, recipe.seed),
        FamilyPairs(faces, validation, spec, settings, recipe.seed + 1),
        summary,
    )


def _from_set(place: str, settings: Settings, recipe: Recipe, detector: Detector, spec: FaceInput) -> DataSplits:
    train, validation, summary = prepared(place, 0, settings.without, settings.allow_leaks)
    if train.margin < spec.margin:
        raise RecipeError(
            f"the crops of {place} have margin {train.margin:g}, and {recipe.detector} looks at {spec.margin:g}:"
            " prepare them with a larger --margin"
        )
    fakes: tuple[PreparedFaces, PreparedFaces] | tuple[None, None] = (None, None)
    if settings.own_fakes:
        if type(detector).targets is not Detector.targets:
            raise RecipeError(
                f"recipe {recipe.name}: {recipe.detector} learns from blending masks, which own_fakes do not have"
            )
        fakes = prepared(place, 1, settings.without, settings.allow_leaks)[:2]
        summary |= {"train_own_fakes": len(fakes[0]), "validation_own_fakes": len(fakes[1])}
    order = np.random.default_rng([recipe.seed, 0xFACE]).permutation(len(validation))
    held = np.sort(order[: settings.validation_items])
    return DataSplits(
        FamilyPairs(train, np.arange(len(train), dtype=np.int64), spec, settings, recipe.seed, fakes[0]),
        FamilyPairs(validation, held, spec, settings, recipe.seed + 1, fakes[1]),
        summary,
    )
