"""Where a network's weights start from: public ImageNet weights for paper profiles, trained detectors for others."""

from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from detectors.registry import create
from train.start import read_state, start_from


def written(state: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Weights unlike any initialisation, as a file."""
    torch.manual_seed(0)
    made = {k: (v + torch.rand_like(v) if v.is_floating_point() else v).contiguous() for k, v in state.items()}
    save_file(made, path)
    return made


PUBLISHED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "xception": (lambda: timm.create_model("legacy_xception"), "conv4.pointwise.weight"),
    "frame_cnn": (lambda: timm.create_model("legacy_xception"), "bn1.weight"),
    "face_xray": (lambda: timm.create_model("hrnet_w18"), "stage2.0.branches.0.0.conv1.weight"),
    "laa_net": (lambda: timm.create_model("tf_efficientnet_b4"), "conv_stem.weight"),
    "capsule": (lambda: torchvision.models.vgg19(), "features.0.weight"),
    "dual_level": (lambda: torchvision.models.resnet50(), "layer2.0.conv1.weight"),
    "fwa": (lambda: timm.create_model("resnet50"), "layer1.0.conv1.weight"),
}
"""The networks that ImageNet weights exist for, and one of their tensors."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_imagenet_weights_start_a_paper_profile(name: str, tmp_path: Path) -> None:
    network, key = PUBLISHED[name]
    given = written(network().state_dict(), tmp_path / "imagenet.safetensors")
    detector = create(name, "paper")
    (started,) = start_from(detector, tmp_path / "imagenet.safetensors")
    assert started.missing == () and started.filled > 10
    assert any(torch.equal(value, given[key]) for value in detector.state_dict().values())


def test_a_trained_frame_network_starts_the_recurrent_one(tmp_path: Path) -> None:
    given = written(create("frame_cnn", "paper").state_dict(), tmp_path / "frame.safetensors")
    detector = create("cnn_recurrent", "paper")
    (started,) = start_from(detector, tmp_path / "frame.safetensors")
    taken = [key for key, value in detector.state_dict().items() if key in given and torch.equal(value, given[key])]
    assert len(taken) >= started.filled and all(key.startswith("head.") for key in started.missing)
    assert "start anew (head." in str(started)


def test_another_network_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    detector = create("xception", "paper")
    before = {key: value.clone() for key, value in detector.state_dict().items()}
    written(torchvision.models.resnet18().state_dict(), tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="another network's weights"):
        start_from(detector, tmp_path / "other.safetensors")
    assert all(torch.equal(value, before[key]) for key, value in detector.state_dict().items())


def test_files_that_hold_no_weights_are_named(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_bytes(b"not a checkpoint")
    (tmp_path / "a.safetensors").write_bytes(b"nor this one")
    with pytest.raises(ValueError, match="no weights of a run"):
        read_state(tmp_path / "best.pt")
    with pytest.raises(ValueError, match="no safetensors"):
        read_state(tmp_path / "a.safetensors")
    with pytest.raises(OSError, match="none"):
        read_state(tmp_path / "none.safetensors")
