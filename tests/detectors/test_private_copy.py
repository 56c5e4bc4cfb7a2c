"""The copy of a network that gradients are taken in: made once, the weights' own, nobody else's meanwhile."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch
from torch import nn

from detectors.base import Detector
from detectors.explain import private_copy
from detectors.registry import create


def first(detector: Detector) -> nn.Conv2d:
    return next(module for module in detector.modules() if isinstance(module, nn.Conv2d))


def test_it_is_made_once_and_shared_by_nobody_at_a_time() -> None:
    detector = create("mesonet").eval()
    with private_copy(detector) as ours, private_copy(detector) as another:
        assert len({id(detector), id(ours), id(another)}) == 3
    with private_copy(detector) as again:
        assert again is ours or again is another


def test_it_has_the_weights_of_the_detector_whatever_becomes_of_them() -> None:
    detector = create("mesonet").eval()
    weight = first(detector).weight
    with private_copy(detector) as ours:
        shared = first(ours).weight
        assert weight.requires_grad and not shared.requires_grad and weight.data_ptr() == shared.data_ptr()
    with torch.no_grad():
        weight.mul_(2)
    with private_copy(detector) as ours:
        assert torch.equal(first(ours).weight, weight), "changed in place"
    first(detector).weight = nn.Parameter(torch.zeros_like(weight))
    with private_copy(detector) as other:
        assert not first(other).weight.any(), "other weights make another copy"


def test_it_goes_with_the_detector() -> None:
    detector = create("mesonet").eval()
    with private_copy(detector) as ours:
        gone = weakref.ref(ours)
    del detector, ours
    gc.collect()
    assert gone() is None


def test_one_that_an_error_left_is_not_used_again() -> None:
    detector = create("mesonet").eval()
    with pytest.raises(RuntimeError), private_copy(detector) as broken:
        raise RuntimeError
    with private_copy(detector) as ours:
        assert ours is not broken
