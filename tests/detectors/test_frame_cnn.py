"""Frame CNN: the specification's parameter counts and shapes, and Keras weights give what Keras computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_files import Layers, write_keras
from numpy.typing import NDArray
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


class Keras:
    """Random layers in Keras' names and array orders, and what Keras computes with them, written layer by layer."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.layers: dict[str, list[NDArray[np.float32]]] = {}

    def draw(self, *shape: int, fan: int) -> NDArray[np.float32]:
        return self.random.normal(0, (2 / fan) ** 0.5, shape).astype(np.float32)

    def norm(self, name: str, x: Tensor, eps: float = 1e-3) -> Tensor:
        width = x.shape[1]
        r = self.random
        gamma, variance = (r.uniform(0.5, 1.5, width).astype(np.float32) for _ in range(2))
        beta, mean = (r.normal(0, 0.2, width).astype(np.float32) for _ in range(2))
        self.layers[name] = [gamma, beta, mean, variance]
        g, b, m, v = (torch.from_numpy(a)[:, None, None] for a in self.layers[name])
        return g * (x - m) / torch.sqrt(v + eps) + b

    def conv(
        self, name: str, x: Tensor, out: int, k: int, stride: int = 1, pad: str = "same", bias: bool = False
    ) -> Tensor:
        kernel = self.draw(k, k, x.shape[1], out, fan=k * k * x.shape[1])
        arrays = [kernel] + ([self.draw(out, fan=100)] if bias else [])
        self.layers[name] = arrays
        x = same(x, k, stride, 0.0) if pad == "same" else x
        offset = torch.from_numpy(arrays[1]) if bias else None
        return functional.conv2d(x, torch.from_numpy(kernel).permute(3, 2, 0, 1), offset, stride)

    def depthwise(self, kernel: NDArray[np.float32], x: Tensor, k: int, stride: int = 1) -> Tensor:
        weight = torch.from_numpy(kernel).permute(2, 3, 0, 1)
        return functional.conv2d(same(x, k, stride, 0.0), weight, None, stride, groups=x.shape[1])

    def separable(self, name: str, x: Tensor, out: int) -> Tensor:
        deep, point = self.draw(3, 3, x.shape[1], 1, fan=9), self.draw(1, 1, x.shape[1], out, fan=x.shape[1])
        self.layers[name] = [deep, point]
        x = functional.conv2d(self.depthwise(deep, x, 3), torch.from_numpy(point).permute(3, 2, 0, 1))
        return self.norm(f"{name}_bn", x)

    def head(self, x: Tensor) -> Tensor:
        """The two dense layers get automatic names too."""
        x = x.mean((2, 3))
        for name, width in (("dense_7", 512), ("dense_8", 2)):
            kernel, bias = self.draw(x.shape[1], width, fan=x.shape[1]), self.draw(width, fan=200)
            self.layers[name] = [kernel, bias]
            x = x @ torch.from_numpy(kernel) + torch.from_numpy(bias)
            x = x.relu() if width == 512 else x
        return x

    def xception(self, x: Tensor) -> Tensor:
        x = self.norm("block1_conv1_bn", self.conv("block1_conv1", x, 32, 3, 2, "valid")).relu()
        x = self.norm("block1_conv2_bn", self.conv("block1_conv2", x, 64, 3, 1, "valid")).relu()
        # Numbers in a trainer's session need not start at 1, nor sort as text.
        for number, block, widths in (
            (8, 2, (128, 128)),
            (9, 3, (256, 256)),
            (10, 4, (728, 728)),
            (11, 13, (728, 1024)),
        ):
            if block == 13:
                for middle in range(5, 13):
                    shortcut = x
                    for i in (1, 2, 3):
                        x = self.separable(f"block{middle}_sepconv{i}", x.relu(), 728)
                    x = x + shortcut
            shortcut = self.conv(f"conv2d_{number}", x, widths[1], 1, 2)
            shortcut = self.norm(f"batch_normalization_{number}", shortcut)
            for i, width in enumerate(widths, 1):
                x = self.separable(f"block{block}_sepconv{i}", x if (block, i) == (2, 1) else x.relu(), width)
            x = functional.max_pool2d(same(x, 3, 2, -torch.inf), 3, 2) + shortcut
        x = self.separable("block14_sepconv1", x, 1536).relu()
        return self.head(self.separable("block14_sepconv2", x, 2048).relu())

    def efficientnet(self, x: Tensor) -> Tensor:
        swish = functional.silu
        x = swish(self.norm("stem_bn", self.conv("stem_conv", x, 32, 3, 2)))
        stages = ((1, 1, 16, 1, 3), (2, 6, 24, 2, 3), (2, 6, 40, 2, 5), (3, 6, 80, 2, 3))
        stages += ((3, 6, 112, 1, 5), (4, 6, 192, 2, 5), (1, 6, 320, 1, 3))
        for stage, (repeats, expand, out, stride, k) in enumerate(stages, 1):
            for index in range(repeats):
                name, shortcut, width = f"block{stage}{'abcd'[index]}", x, x.shape[1]
                if expand > 1:
                    x = swish(self.norm(f"{name}_expand_bn", self.conv(f"{name}_expand_conv", x, width * expand, 1)))
                kernel = self.draw(k, k, x.shape[1], 1, fan=k * k)
                self.layers[f"{name}_dwconv"] = [kernel]
                x = swish(self.norm(f"{name}_bn", self.depthwise(kernel, x, k, stride if index == 0 else 1)))
                squeezed = x.mean((2, 3), keepdim=True)
                squeezed = swish(self.conv(f"{name}_se_reduce", squeezed, max(1, width // 4), 1, bias=True))
                x = x * torch.sigmoid(self.conv(f"{name}_se_expand", squeezed, x.shape[1], 1, bias=True))
                x = self.norm(f"{name}_project_bn", self.conv(f"{name}_project_conv", x, out, 1))
                x = x + shortcut if index else x
        return self.head(swish(self.norm("top_bn", self.conv("top_conv", x, 1280, 1))))


def same(x: Tensor, kernel: int, stride: int, value: float) -> Tensor:
    """TensorFlow's "same": the odd pixel of padding goes below and to the right."""
    total = max((-(-x.shape[-1] // stride) - 1) * stride + kernel - x.shape[-1], 0)
    return functional.pad(x, (total // 2, total - total // 2) * 2, value=value)


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
