"""A trained detector of single faces that another network learns from, where labels alone are too hard a start.

The network's embedding follows the teacher's on the same pixels ("hints": Romero et al., FitNets, ICLR 2015, section
2.2; both embeddings have as many values here, so there is no map in between that would be thrown away).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from detectors.base import Detector, DetectorOutput
from detectors.store import NoWeights, WeightsError, load
from preprocessing.inputs import ClipInput, FaceInput
from train.recipe import Recipe, RecipeError

EVERY = 4
"""Of a clip's frames the teacher sees every fourth, and their mean embedding is what is followed."""


def settled(recipe: Recipe, learner: Detector) -> Recipe:
    """The recipe with its teacher's sha256, so that no other takes its place on another machine or after a pause.

    Raises RecipeError where there are no such weights, or the two do not fit.
    """
    if recipe.teacher is None:
        return recipe
    teacher = Teacher.of(recipe, learner, "cpu")
    assert teacher is not None
    spec, was = learner.input, learner.training
    face = spec.face if isinstance(spec, ClipInput) else spec
    assert isinstance(face, FaceInput)
    batch = torch.zeros(1, *((spec.length,) if isinstance(spec, ClipInput) else ()), 3, face.size, face.size)
    with torch.no_grad():
        own, aim = learner.eval()(batch).embedding, teacher.embedding(batch)
    learner.train(was)
    if own is None or own.shape != aim.shape:
        has = "no embedding" if own is None else f"an embedding of {own.shape[1]} values"
        raise RecipeError(
            f"recipe {recipe.name}, teacher {recipe.teacher.detector}: the network has {has}, its teacher one of"
            f" {aim.shape[1]}: change the config (of C3D `hidden`), or take another teacher"
        )
    return recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"sha256": teacher.sha256})})


class Teacher:
    """Adds to the loss how far the embedding is from the teacher's, as a share of the teacher's mean square."""

    sha256 = ""
    """Of its weights, where they came from a file."""

    def __init__(self, detector: Detector, learner: Detector, weight: float) -> None:
        """Raises ValueError where the two do not see the same kind of picture."""
        spec, own = detector.input, learner.input
        face = own.face if isinstance(own, ClipInput) else own
        if not isinstance(spec, FaceInput) or not isinstance(face, FaceInput):
            raise ValueError("teacher and network must look at faces, the teacher at single ones")
        if (spec.margin, spec.align) != (face.margin, face.align):
            raise ValueError(
                f"the teacher sees faces with margin {spec.margin:g}, aligned by {spec.align}, the network"
                f" {face.margin:g} and {face.align}"
            )
        self._detector, self._spec, self._face, self._weight = detector, spec, face, weight

    @classmethod
    def of(cls, recipe: Recipe, learner: Detector, device: str) -> Teacher | None:
        """The recipe's, on the device; None where it names none. Raises RecipeError."""
        if recipe.teacher is None:
            return None
        asked = recipe.teacher
        try:
            loaded = load(asked.detector, weights=Path(asked.weights) if asked.weights else None)
            if asked.sha256 not in (None, loaded.card.sha256):
                raise ValueError(f"its weights here are {loaded.label}; the run began with {str(asked.sha256)[:12]}")
            teacher = cls(loaded.detector.to(device), learner, asked.weight)
        except (NoWeights, WeightsError, ValueError) as error:
            raise RecipeError(f"recipe {recipe.name}, teacher {asked.detector}: {error}") from error
        teacher.sha256 = loaded.card.sha256
        return teacher

    def __call__(self, batch: Tensor, output: DetectorOutput) -> Tensor:
        """The weighted distance for a prepared batch of the network (B, 3, s, s) or (B, length, 3, s, s)."""
        with torch.no_grad():
            aim = self.embedding(batch)
        found = output.embedding
        assert found is not None and found.shape == aim.shape  # `settled` has seen to it
        return self._weight * functional.mse_loss(found.float(), aim) / aim.square().mean().clamp(min=1e-6)

    def embedding(self, batch: Tensor) -> Tensor:
        """The teacher's, (B, D), for a prepared batch of the network."""
        frames = batch if batch.ndim == 4 else batch[:, ::EVERY].flatten(0, 1)
        own, given = (self._statistics(spec, batch) for spec in (self._face, self._spec))
        pixels = (frames.float() * own[1] + own[0] - given[0]) / given[1]
        size = (self._spec.size, self._spec.size)
        if pixels.shape[-1] != self._spec.size:
            pixels = functional.interpolate(pixels, size, mode="bilinear", antialias=True)
        found = self._detector(pixels).embedding
        assert found is not None
        return found.float().unflatten(0, (len(batch), -1)).mean(1)

    @staticmethod
    def _statistics(spec: FaceInput, batch: Tensor) -> tuple[Tensor, Tensor]:
        mean, std = (torch.tensor(v, device=batch.device)[:, None, None] for v in (spec.mean, spec.std))
        return mean, std
