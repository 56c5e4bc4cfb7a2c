"""MobileNet v1 starts from ImageNet weights, or from a detector that was trained with one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from detectors.backbone import MobileNetV1
from detectors.registry import create

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("last", [2, 3, 4])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("shape", [(160, 160), (113, 150)])
def test_it_is_timms(last: int, training: bool, shape: tuple[int, int]) -> None:
    theirs = timm.create_model(
        "mobilenetv1_100", features_only=True, out_indices=tuple(range(last + 1)), pad_type="same", bn_eps=1e-3
    )
    ours = MobileNetV1(last)
    torch.manual_seed(0)
    state = {
        name: value if value.ndim == 0 else torch.rand_like(value) + 0.5 if value.ndim == 1 else value
        for name, value in theirs.state_dict().items()
        if not name.startswith(tuple(f"blocks.{deeper}" for deeper in range(last + 1, 5)))
    }
    theirs.load_state_dict(state, strict=False)
    ours.net.load_state_dict(state)
    batch = torch.randn(2, 3, *shape)
    with torch.no_grad():
        found, expected = (network.train(training)(batch) for network in (ours, theirs))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    means = [network.state_dict()["blocks.0.0.bn1.running_mean"] for network in (ours.net, theirs)]
    torch.testing.assert_close(*means)


def test_it_starts_as_timms_does() -> None:
    theirs = timm.create_model("mobilenetv1_100", features_only=True, out_indices=(0, 1, 2))
    for name, weight in MobileNetV1(2).net.named_parameters():
        other = theirs.get_parameter(name)
        if weight.ndim == 4:
            assert weight.std().item() == pytest.approx(other.std().item(), rel=0.3), name
        else:
            assert torch.equal(weight, other), name


def test_compact_detectors_do_without_timm() -> None:
    names = (
        "frame_cnn",
        "mesonet",
        "xception",
        "face_xray",
        "fwa",
        "laa_net",
        "triplet",
        "gend",
        "capsule",
        "dual_level",
    )
    script = f"import sys; from detectors.registry import create; [create(n, 'compact') for n in {names}]; "
    script += "sys.exit(str({'timm', 'torchvision', 'torch._dynamo'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stderr.strip() == "set()"


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
