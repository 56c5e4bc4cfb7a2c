"""Robustness perturbations of pictures and clips, by name and level, in named suites (docs/perturbations.md)."""

from preprocessing.perturb.suites import (
    PerturbationError,
    Step,
    describe,
    levels,
    names,
    perturb,
    perturb_stream,
    suite,
    suites,
)

__all__ = [
    "PerturbationError",
    "Step",
    "describe",
    "levels",
    "names",
    "perturb",
    "perturb_stream",
    "suite",
    "suites",
]
