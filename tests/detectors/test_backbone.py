"""MobileNet v1 starts from ImageNet weights, or from a detector that was trained with one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file
from torch import nn

from detectors.backbone import MobileNetV1, fold_norms, is_folded
from detectors.registry import create
from detectors.store import WeightsError, find, load, save

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


def test_norms_folded_for_use_change_nothing_that_shows() -> None:
    torch.manual_seed(0)
    network = MobileNetV1(3)
    with torch.no_grad():
        for _ in range(3):
            network(torch.randn(8, 3, 96, 96) * 2 + 0.3)  # statistics of its own
    batch = torch.randn(2, 3, 113, 160)
    with torch.no_grad():
        before = network.eval()(batch)
        fold_norms(network)
        after = network(batch)
    assert is_folded(network) and not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_detector_loaded_for_use_is_folded_and_not_saved(tmp_path: Path) -> None:
    loaded = load("frame_cnn")
    fold_norms(loaded.detector)  # a second time changes nothing
    with pytest.raises(WeightsError, match="loaded for use"):
        save(
            loaded.detector,
            tmp_path,
            **loaded.card.model_dump(exclude={"detector", "file", "sha256", "bytes", "config"}),
        )
    trained = create("frame_cnn")
    state = load_file(find("frame_cnn", "compact").path)
    trained.load_state_dict({name: value.float() for name, value in state.items()})
    crops = torch.rand(4, 3, 160, 160) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(trained.eval()(crops).logit, loaded.detector(crops).logit, atol=1e-4, rtol=0)


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
