"""Every generator of pseudo-fakes from still pictures by name, and mixtures of them from which any can be held out."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from preprocessing.blending.bi import bi
from preprocessing.blending.clips import FaceClip
from preprocessing.blending.fwa import fwa
from preprocessing.blending.pseudofake import BlendError, Face, PseudoFake
from preprocessing.blending.reference import sbi_reference
from preprocessing.blending.rendered import RENDERED, Drawing, Part, rendered
from preprocessing.blending.sbi import sbi
from preprocessing.blending.selfblend import BlendSettings, Family, self_blend
from preprocessing.blending.swap_families import FAMILIES as SWAPS
from preprocessing.blending.swap_families import swap_stream
from preprocessing.crops import face_square
from preprocessing.settings import Strict
from preprocessing.types import Image

Make = Callable[[Image, NDArray[np.floating], np.random.Generator, Face | None], PseudoFake]


@dataclass(frozen=True)
class Generator:
    """`needs_partner`: takes the picture of another person beside the one that is changed."""

    name: str
    needs_partner: bool
    make: Make


def _local(family: Family) -> Make:
    settings = BlendSettings(families={family: 1.0})

    def make(image: Image, points: NDArray[np.floating], rng: np.random.Generator, _: Face | None) -> PseudoFake:
        pair = self_blend(image, points, rng, settings)
        mask = np.minimum(pair.mask / np.float32(pair.ratio), 1)
        return PseudoFake(pair.real, pair.fake, mask, np.asarray(points, np.float32), family, pair.ratio, pair.redraws)

    return make


def _bi(image: Image, points: NDArray[np.floating], rng: np.random.Generator, partner: Face | None) -> PseudoFake:
    if partner is None:
        raise BlendError("bi blends another person's face: give a partner (PartnerIndex finds one)")
    return bi(image, points, rng, partner)


def _swap(family: str) -> Make:
    def make(image: Image, points: NDArray[np.floating], rng: np.random.Generator, partner: Face | None) -> PseudoFake:
        if partner is None:
            raise BlendError(f"{family} takes another face: give a partner (PartnerIndex finds one)")
        here = np.asarray(points, np.float32)
        there = np.asarray(partner.points, np.float32)
        stream = swap_stream(FaceClip([image], here[None]), family, rng, FaceClip([partner.image], there[None]))
        fake, mask = stream.frame(0)
        return PseudoFake(image, fake, mask, here, family, 1.0, 0)

    return make


def _rendered(part: Part) -> Make:
    return lambda image, points, rng, _: rendered(part, image, points, rng)


def _swap_rendered(
    image: Image, points: NDArray[np.floating], rng: np.random.Generator, partner: Face | None
) -> PseudoFake:
    if partner is not None:
        side = face_square(partner.points[:68], 1.0)[2]
        partner = Face(Drawing.draw(rng)(partner.image, side), partner.points)
    made = _swap("swap_triangles")(image, points, rng, partner)
    return replace(made, family="swap_rendered")


_GENERATORS = {
    entry.name: entry
    for entry in (
        Generator("bi", True, _bi),
        Generator("sbi", False, lambda image, points, rng, _: sbi(image, points, rng)),
        Generator("sbi_reference", False, lambda image, points, rng, _: sbi_reference(image, points, rng)),
        Generator("fwa", False, lambda image, points, rng, _: fwa(image, points, rng)),
        Generator("face", False, _local("face")),
        Generator("mouth", False, _local("mouth")),
        Generator("eyes", False, _local("eyes")),
        Generator("resolution", False, _local("resolution")),
        *(Generator(name, False, _rendered(part)) for name, part in RENDERED.items()),
        Generator("swap_rendered", True, _swap_rendered),
        # Of one frame each: a swap shows the partner's face, a reenactment takes its expression.
        *(Generator(name, True, _swap(name)) for name in SWAPS),
    )
}


def families() -> tuple[str, ...]:
    """The names that `make` and `Mixture` take."""
    return tuple(_GENERATORS)


def generator(name: str) -> Generator:
    """Raises BlendError for an unknown name, with the closest known one."""
    found = _GENERATORS.get(name)
    if found is None:
        near = difflib.get_close_matches(name, families(), n=1)
        known = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(families())}"
        raise BlendError(f"there is no family {name!r} of pseudo-fakes: {known}")
    return found


def make(
    name: str, image: Image, points: NDArray[np.floating], rng: np.random.Generator, partner: Face | None = None
) -> PseudoFake:
    """A pseudo-fake of one family from a picture (H, W, 3) uint8 RGB with landmarks (68 or 81, 2) in its pixels.

    `rng` decides everything: `sample_rng(seed, epoch, index)` makes a sample reproducible bit for bit. "bi", swaps and
    reenactments need a partner; others ignore it.

    Raises:
        BlendError: an unknown family, one without the partner that it needs, or nothing can be made of the landmarks.
    """
    return generator(name).make(image, points, rng, partner)


class Mixture(Strict):
    """Families with their odds (relative; 0 or left out: held out)."""

    odds: dict[str, float] = Field(min_length=1)

    @field_validator("odds")
    @classmethod
    def _known_and_some(cls, odds: dict[str, float]) -> dict[str, float]:
        for name in odds:
            generator(name)
        if min(odds.values()) < 0 or sum(odds.values()) <= 0:
            raise ValueError("a mixture needs odds of at least 0, one of them above 0")
        return odds

    @property
    def needs_partner(self) -> bool:
        """Whether any family that can be drawn blends two people."""
        return any(generator(name).needs_partner for name, odds in self.odds.items() if odds > 0)

    def without(self, *names: str) -> Mixture:
        """The same odds with some families held out."""
        return Mixture(odds={name: odds for name, odds in self.odds.items() if name not in names})

    def draw(self, rng: np.random.Generator) -> str:
        """A family by its odds."""
        odds = np.array(list(self.odds.values()), np.float64)
        return list(self.odds)[int(rng.choice(len(odds), p=odds / odds.sum()))]

    def make(
        self, image: Image, points: NDArray[np.floating], rng: np.random.Generator, partner: Face | None = None
    ) -> PseudoFake:
        """A pseudo-fake of a family drawn by its odds; as `make`."""
        return make(self.draw(rng), image, points, rng, partner)
