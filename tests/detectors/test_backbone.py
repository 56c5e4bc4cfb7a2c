"""MobileNet v1 starts from ImageNet weights, or from a detector that was trained with one."""

from __future__ import annotations

import pytest
import torch

from detectors.backbone import MobileNetV1
from detectors.registry import create


def test_a_trained_detectors_mobilenet_is_taken_over() -> None:
    trained = create("frame_cnn", "compact").half()
    fresh = MobileNetV1(2)
    fresh.load_imagenet(trained.state_dict())
    taken = {name: value for name, value in trained.state_dict().items() if ".conv_stem." in name}
    (stem,) = taken.values()
    assert torch.equal(fresh.net.conv_stem.weight, stem.float()), "half precision becomes single"


def test_a_network_without_one_is_refused() -> None:
    with pytest.raises(ValueError, match="not weights of mobilenetv1_100"):
        MobileNetV1(2).load_imagenet(create("mesonet", "compact").state_dict())
