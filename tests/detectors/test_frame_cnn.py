"""Frame CNN: the published parameter counts and shapes, and Keras weights give what Keras computes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_files import Keras, Layers, write_keras
from keras_networks import efficientnet, inception_resnet_v2, inception_v3, nasnet, resnet50
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from detectors.base import Truth
from detectors.checkpoints import CheckpointError
from detectors.methods.cnn_recurrent import CNNRecurrentConfig
from detectors.methods.frame_cnn import FrameCNN, FrameCNNConfig
from detectors.methods.frame_cnn.backbones import NETWORKS, REFERENCE_NAMES, WIDTHS
from detectors.registry import create, entry


def network(**config: Any) -> FrameCNN:
    torch.manual_seed(0)
    return FrameCNN(FrameCNNConfig(**config)).eval()


def keras_count(module: torch.nn.Module) -> int:
    """Keras counts running means and variances as (untrained) parameters."""
    statistics = sum(b.numel() for name, b in module.named_buffers() if "running" in name)
    return statistics + sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("backbone", "channels", "alone", "whole"),
    [("xception", 2048, 20_861_480, 21_911_594), ("efficientnet_b0", 1280, 4_049_564, 4_706_462)],
)
def test_counts_and_last_map_are_the_specifications(backbone: str, channels: int, alone: int, whole: int) -> None:
    model = network(backbone=backbone)
    assert keras_count(model.backbone) == alone
    assert keras_count(model) == whole
    with torch.inference_mode():
        assert model.backbone(torch.zeros(1, 3, 160, 160)).shape == (1, channels, 5, 5)


@pytest.mark.parametrize(
    ("short", "backbone", "alone", "last_map"),
    [
        ("iv3", "inception_v3", 21_802_784, (2048, 3, 3)),
        ("irv2", "inception_resnet_v2", 54_336_736, (1536, 3, 3)),
        ("resnet", "resnet50", 23_587_712, (2048, 5, 5)),
        ("nasnet", "nasnet_large", 84_916_818, (4032, 5, 5)),
        ("ef0", "efficientnet_b0", 4_049_564, (1280, 5, 5)),
        # Keras says 7 more since it normalises inside: three means, three variances and a count.
        ("ef5", "efficientnet_b5", 28_513_527 - 7, (2048, 5, 5)),
    ],
)
def test_each_backbone_of_the_reference_has_the_count_that_keras_publishes(
    short: str, backbone: str, alone: int, last_map: tuple[int, int, int]
) -> None:
    with torch.device("meta"):  # names and shapes only
        model = network(backbone=short)
        assert model.config.backbone == backbone == REFERENCE_NAMES[short]
        assert keras_count(model.backbone) == alone
        assert model.backbone(torch.zeros(1, 3, 160, 160)).shape == (1, *last_map)
        assert model(torch.zeros(2, 3, 160, 160)).aux["classes"].shape == (2, 2)


def test_recurrent_networks_take_the_same_names() -> None:
    assert CNNRecurrentConfig.model_validate({"backbone": "iv3"}).backbone == "inception_v3"
    for config in (FrameCNNConfig, CNNRecurrentConfig):
        with pytest.raises(ValidationError, match="inception_v3 needs at least 80 pixels, not 64"):
            config.model_validate({"backbone": "iv3", "size": 64})


@pytest.mark.parametrize("backbone", list(NETWORKS))
def test_timms_own_networks_are_there_too(backbone: str) -> None:
    with torch.device("meta"):
        theirs = network(backbone=backbone, keras=False)
        assert theirs.backbone(torch.zeros(1, 3, 160, 160)).shape[1] == WIDTHS[theirs.config.backbone]
        epsilons = {m.eps for m in theirs.modules() if isinstance(m, torch.nn.BatchNorm2d)}
    assert epsilons <= {1e-5, 1e-3}


def test_compact_is_small_enough_to_ship() -> None:
    model = create("frame_cnn", "compact")
    assert sum(p.numel() for p in model.parameters()) == 1_679_042


def test_the_head_has_both_dropouts_of_the_reference() -> None:
    config = entry("frame_cnn").profiles["paper"]
    assert isinstance(config, FrameCNNConfig) and config.dropout == (0.4, 0.5)
    model = create("frame_cnn", "paper").train()
    assert isinstance(model, FrameCNN)
    kept = (model.dropout(torch.ones(200, 512)) > 0).float().mean()
    assert kept.item() == pytest.approx(0.3, abs=0.01)


def test_the_first_class_is_fake_and_the_loss_is_categorical_cross_entropy() -> None:
    model = network(backbone="mobilenetv1", size=64, hidden=8)
    output = model(torch.rand(4, 3, 64, 64))
    classes = output.aux["classes"]
    assert torch.allclose(torch.sigmoid(output.logit), classes.softmax(1)[:, 0], atol=1e-6)
    fake = torch.tensor([1.0, 0, 0, 1])
    published = functional.cross_entropy(classes, 1 - fake.long())
    assert model.loss(output, Truth(fake)).item() == pytest.approx(published.item(), abs=1e-6)


@pytest.mark.parametrize("backbone", ["xception", "efficientnet_b0", "mobilenetv1"])
def test_grad_cam_looks_at_the_last_map(backbone: str) -> None:
    model = network(backbone=backbone)
    seen: list[Tensor] = []
    model.cam_layer().register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        batch = torch.rand(1, 3, 160, 160)
        assert torch.equal(model.backbone(batch), seen[0])
    assert float(seen[0].min()) >= (0 if backbone != "efficientnet_b0" else -0.3)  # ReLU; swish reaches -0.28


@pytest.mark.parametrize("backbone", list(NETWORKS))
def test_the_last_map_is_what_its_module_gives(backbone: str) -> None:
    with torch.device("meta"):
        model = network(backbone=backbone)
        seen: list[Tensor] = []
        model.cam_layer().register_forward_hook(lambda module, inputs, output: seen.append(output))
        assert model.backbone(torch.rand(1, 3, 96, 96)) is seen[0]


def test_pools_pad_as_keras_does() -> None:
    pool = network().backbone.net.get_submodule("block2.rep")[-1]  # type: ignore[index]
    rows = torch.arange(20.0).repeat(1, 1, 20, 1)
    assert pool(rows)[0, 0, 0].tolist() == [2, 4, 6, 8, 10, 12, 14, 16, 18, 19]
    assert pool(torch.zeros(1, 1, 77, 77)).shape[-1] == 39
    assert pool(torch.zeros(1, 1, 39, 39)).shape[-1] == 20
    timms = network(keras=False).backbone.net.get_submodule("block2.rep")[-1]  # type: ignore[index]
    assert timms(rows)[0, 0, 0].tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]


@pytest.fixture
def tiny_nasnet(monkeypatch: pytest.MonkeyPatch) -> None:
    """NASNet with all its cells, 8 channels wide where Large has 168."""
    tiny = replace(NETWORKS["nasnet_large"], options={"num_features": 24 * 8, "stem_size": 16})
    monkeypatch.setitem(NETWORKS, "nasnet_large", tiny)
    monkeypatch.setitem(WIDTHS, "nasnet_large", 24 * 8)


LAST_MAPS: dict[str, Callable[[Keras, Tensor], Tensor]] = {
    "inception_v3": inception_v3,
    "inception_resnet_v2": inception_resnet_v2,
    "resnet50": resnet50,
    "resnet50, old": partial(resnet50, old=True),
    "nasnet_large": partial(nasnet, filters=8, stem=16),
    "efficientnet_b0": efficientnet,
    "efficientnet_b0, unnamed": partial(efficientnet, named=False),
    "efficientnet_b5": partial(efficientnet, wide=1.6, deep=2.2),
    "efficientnet_b5, unnamed": partial(efficientnet, wide=1.6, deep=2.2, named=False),
}


def computed(keras: Keras, which: str, frames: Tensor) -> Tensor:
    """The two outputs before the softmax."""
    with torch.inference_mode():
        return keras.xception(frames) if which == "xception" else keras.head(LAST_MAPS[which](keras, frames))


def in_another_order(layers: Layers) -> Layers:
    """A file's order follows the graph, not the order in which layers were made."""
    names = sorted(layers, key=lambda name: name[::-1])
    return {name: layers[name] for name in names}


LARGE = {"inception_v3", "inception_resnet_v2", "resnet50, old", "efficientnet_b5", "efficientnet_b5, unnamed"}
"""Tens of millions of random numbers through a file: among the slow tests."""


@pytest.mark.parametrize(
    "which", [pytest.param(w, marks=[pytest.mark.slow] if w in LARGE else []) for w in ("xception", *LAST_MAPS)]
)
@pytest.mark.usefixtures("tiny_nasnet")
def test_a_keras_file_gives_what_keras_computes(which: str, tmp_path: Path) -> None:
    keras = Keras()
    # Sides even and odd at stride 2; the Inceptions take no less than 75. B5's many blocks magnify rounding.
    kind, side = (torch.float64, 32) if "b5" in which else (torch.float32, 80)
    size = {"xception": 160, "resnet50": 64}.get(which, side)
    frames = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(kind)
    expected = computed(keras, which, frames)
    path = write_keras(tmp_path / f"{which}.hdf5", in_another_order(keras.layers))
    config, state = FrameCNN.import_checkpoint([path])
    assert config.backbone == which.partition(",")[0]
    with torch.device("meta"):
        model = FrameCNN(config).eval()
    model.load_state_dict(state, assign=True)
    with torch.inference_mode():
        classes = model.to(kind)(frames).aux["classes"]
    assert expected.abs().max() > 0.1
    assert torch.allclose(classes, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize(
    ("which", "lost", "message"),
    [
        ("resnet50", "pool1_pad", r"its resnet50 has no layer pool1_pad.*other scores here"),
        ("nasnet_large", "reduction_pad_1_stem_1", r"its nasnet_large has no layer reduction_pad_1_stem_1"),
    ],
)
@pytest.mark.usefixtures("tiny_nasnet")
def test_networks_that_keras_once_padded_otherwise_are_refused(
    which: str, lost: str, message: str, tmp_path: Path
) -> None:
    keras = Keras()
    computed(keras, which, torch.rand(1, 3, 64, 64))
    del keras.layers[lost]
    with pytest.raises(CheckpointError, match=message):
        FrameCNN.import_checkpoint([write_keras(tmp_path / "early.hdf5", keras.layers)])


def truncated(keras: Keras) -> Layers:
    return {name: arrays for name, arrays in keras.layers.items() if name != "block9_sepconv2_bn"}


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    keras = Keras()
    computed(keras, "xception", torch.rand(1, 3, 64, 64))
    path = write_keras(tmp_path / "cut.hdf5", truncated(keras))
    with pytest.raises(CheckpointError, match="lacks the layers block9_sepconv2_bn"):
        FrameCNN.import_checkpoint([path])
    keras.layers["extra"] = keras.layers["block1_conv1"]
    with pytest.raises(CheckpointError, match="does not have: extra"):
        FrameCNN.import_checkpoint([write_keras(tmp_path / "more.hdf5", keras.layers)])
    del keras.layers["extra"], keras.layers["conv2d_9"]
    with pytest.raises(CheckpointError, match="4 layers named conv2d, and the file 3"):
        FrameCNN.import_checkpoint([write_keras(tmp_path / "three.hdf5", keras.layers)])
    with pytest.raises(CheckpointError, match=r"none of Keras' Xception, .* EfficientNet-B5 with all layers"):
        FrameCNN.import_checkpoint([write_keras(tmp_path / "b4.hdf5", {"top_conv": [np.zeros((1, 1), np.float32)]})])


def test_a_relative_of_a_network_is_refused(tmp_path: Path) -> None:
    """EfficientNet-B1 has B0's widths, and two depthwise convolutions more where it names none."""
    keras = Keras()
    with torch.inference_mode():
        keras.head(efficientnet(keras, torch.rand(1, 3, 64, 64), deep=1.1))
    with pytest.raises(CheckpointError, match="does not have: block1b_bn"):
        FrameCNN.import_checkpoint([write_keras(tmp_path / "b1.hdf5", keras.layers)])
