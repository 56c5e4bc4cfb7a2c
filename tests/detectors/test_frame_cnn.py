"""Frame CNN: the specification's parameter counts and shapes, and Keras weights give what Keras computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_files import Keras, Layers, write_keras
from torch import Tensor
from torch.nn import functional

from detectors.base import Truth
from detectors.checkpoints import CheckpointError
from detectors.methods.frame_cnn import FrameCNN, FrameCNNConfig
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


def test_pools_pad_as_keras_does() -> None:
    pool = network().backbone.net.get_submodule("block2.rep")[-1]  # type: ignore[index]
    rows = torch.arange(20.0).repeat(1, 1, 20, 1)
    assert pool(rows)[0, 0, 0].tolist() == [2, 4, 6, 8, 10, 12, 14, 16, 18, 19]
    assert pool(torch.zeros(1, 1, 77, 77)).shape[-1] == 39
    assert pool(torch.zeros(1, 1, 39, 39)).shape[-1] == 20
    timms = network(keras=False).backbone.net.get_submodule("block2.rep")[-1]  # type: ignore[index]
    assert timms(rows)[0, 0, 0].tolist() == [1, 3, 5, 7, 9, 11, 13, 15, 17, 19]


@pytest.mark.parametrize("backbone", ["xception", "efficientnet_b0"])
def test_a_keras_file_gives_what_keras_computes(backbone: str, tmp_path: Path) -> None:
    keras = Keras()
    frames = torch.rand(2, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = keras.xception(frames) if backbone == "xception" else keras.efficientnet(frames)
    path = write_keras(tmp_path / f"{backbone}.hdf5", keras.layers)
    config, state = FrameCNN.import_checkpoint([path])
    assert config.backbone == backbone
    model = FrameCNN(config)
    model.load_state_dict(state)
    with torch.inference_mode():
        classes = model.eval()(frames).aux["classes"]
    assert expected.abs().max() > 0.1
    assert torch.allclose(classes, expected, atol=1e-4 * float(expected.abs().max()))


def truncated(keras: Keras) -> Layers:
    return {name: arrays for name, arrays in keras.layers.items() if name != "block9_sepconv2_bn"}


def test_a_file_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    keras = Keras()
    with torch.inference_mode():
        keras.xception(torch.rand(1, 3, 64, 64))
    path = write_keras(tmp_path / "cut.hdf5", truncated(keras))
    with pytest.raises(CheckpointError, match="lacks the layers block9_sepconv2_bn"):
        FrameCNN.import_checkpoint([path])
    keras.layers["extra"] = keras.layers["block1_conv1"]
    with pytest.raises(CheckpointError, match="does not have: extra"):
        FrameCNN.import_checkpoint([write_keras(tmp_path / "more.hdf5", keras.layers)])
    del keras.layers["extra"], keras.layers["conv2d_9"]
    with pytest.raises(CheckpointError, match="4 shortcuts, and the file 3 layers named conv2d"):
        FrameCNN.import_checkpoint([write_keras(tmp_path / "three.hdf5", keras.layers)])
    with pytest.raises(CheckpointError, match="neither Keras' Xception nor EfficientNet-B0"):
        FrameCNN.import_checkpoint([write_keras(tmp_path / "b5.hdf5", {"top_conv": [np.zeros((1, 1), np.float32)]})])
