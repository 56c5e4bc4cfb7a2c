"""LAA-Net: the published network, layer by layer from its checkpoint's names; its targets and its losses by hand."""

import math
import re
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn import functional

from detectors.base import DetectorOutput, Truth
from detectors.checkpoints import CheckpointError
from detectors.methods.laa_net import LaaConfig, LaaNet
from detectors.methods.laa_net.losses import consistency, consistency_loss, heatmap_loss
from detectors.methods.laa_net.network import EFPN, Inception, PaddedConv2d
from detectors.registry import create
from preprocessing.blending.targets import encode_boundary

LIGHT = {"arch": "mobilenetv1", "size": 64, "hidden": 8, "features": 8}
# Specification 1.1: kernel, stride, expand, in, out and the numbers of the blocks, stage by stage.
STAGES = (
    (3, 1, 1, 48, 24, range(2)),
    (3, 2, 6, 24, 32, range(2, 6)),
    (5, 2, 6, 32, 56, range(6, 10)),
    (3, 2, 6, 56, 112, range(10, 16)),
    (5, 1, 6, 112, 160, range(16, 22)),
    (5, 2, 6, 160, 272, range(22, 30)),
    (3, 1, 6, 272, 448, range(30, 32)),
)
PADDING = {"stem": (0, 1, 0, 1), 2: (0, 1, 0, 1), 6: (2, 2, 2, 2), 10: (0, 1, 0, 1), 22: (1, 2, 1, 2)}


def light(**config: Any) -> LaaNet:
    torch.manual_seed(0)
    return LaaNet(LaaConfig.model_validate(LIGHT | config)).eval()


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Published:
    """Random numbers under the published names (specification 1.4), and what the published network does with them."""

    def __init__(self) -> None:
        self.random = torch.Generator().manual_seed(0)
        self.state: dict[str, Tensor] = {}
        self.conv("_conv_stem", 48, 3, 3)
        self.norm("_bn0", 48)
        for kernel, _, expand, first, outputs, numbers in STAGES:
            for number in numbers:
                inputs = first if number == numbers[0] else outputs
                wide, name = inputs * expand, f"_blocks.{number}"
                if expand > 1:
                    self.conv(f"{name}._expand_conv", wide, inputs, 1)
                    self.norm(f"{name}._bn0", wide)
                self.conv(f"{name}._depthwise_conv", wide, 1, kernel)
                self.norm(f"{name}._bn1", wide)
                self.conv(f"{name}._se_reduce", inputs // 4, wide, 1, bias=True)
                self.conv(f"{name}._se_expand", wide, inputs // 4, 1, bias=True)
                self.conv(f"{name}._project_conv", outputs, wide, 1)
                self.norm(f"{name}._bn2", outputs)
        self.conv("_conv_head", 1792, 448, 1)
        self.norm("_bn1", 1792)
        for step, inputs, outputs in ((1, 1792, 448), (2, 896, 160), (3, 320, 56)):
            self.conv(f"deconv_{step}.0.0", outputs, inputs, 3)
            self.norm(f"deconv_{step}.0.1", outputs)
        for step, width in ((2, 160), (3, 56), (4, 112)):
            self.conv(f"deconv_{step}.1", width, width, 4)
            self.norm(f"deconv_{step}.2", width)
        for path, inputs, kernel in (("pw", 112, 1), ("conv3", 28, 3), ("conv5", 28, 5)):
            self.conv(f"deconv_4.0.{path}_block.0", 28, inputs, kernel)
            self.norm(f"deconv_4.0.{path}_block.1", 28)
        for head in ("hm", "cstency", "cls"):
            self.conv(f"{head}.0", 64, 112, 3, bias=True)
            self.norm(f"{head}.1", 64)
        self.conv("hm.3", 1, 64, 1, bias=True)
        self.conv("cstency.3", 256, 64, 1, bias=True)
        self.state |= {"cls.5.weight": self.draw(1, 64), "cls.5.bias": self.draw(1)}
        for key in [k for k in self.state if k.startswith("deconv_4.0.")]:
            self.state[key.replace("deconv_4.0.", "inception_block.")] = self.state[key]

    def draw(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.random) / math.prod(shape[1:]) ** 0.5

    def conv(self, name: str, outputs: int, inputs: int, kernel: int, bias: bool = False) -> None:
        self.state[f"{name}.weight"] = self.draw(outputs, inputs, kernel, kernel) * 1.5
        if bias:
            self.state[f"{name}.bias"] = self.draw(outputs) * 0.1

    def norm(self, name: str, width: int) -> None:
        self.state |= {
            f"{name}.weight": 1 + 0.2 * torch.rand(width, generator=self.random),
            f"{name}.bias": self.draw(width) * 0.2,
            f"{name}.running_mean": self.draw(width) * 0.1,
            f"{name}.running_var": 0.5 + torch.rand(width, generator=self.random),
            f"{name}.num_batches_tracked": torch.tensor(7),
        }

    def c(self, x: Tensor, name: str, stride: int = 1, pad: int = 0, groups: int = 1) -> Tensor:
        return functional.conv2d(
            x, self.state[f"{name}.weight"].double(), self.get(f"{name}.bias"), stride, pad, groups=groups
        )

    def get(self, key: str) -> Tensor | None:
        return self.state[key].double() if key in self.state else None

    def b(self, x: Tensor, name: str, eps: float = 1e-5) -> Tensor:
        weight, bias, mean, var = (
            self.state[f"{name}.{part}"].double()[:, None, None]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        return (x - mean) / (var + eps).sqrt() * weight + bias

    def unit(self, x: Tensor, name: str) -> Tensor:
        kernel = self.state[f"{name}.0.weight"].shape[-1]
        return self.b(self.c(x, f"{name}.0", pad=kernel // 2), f"{name}.1").relu()

    def up(self, x: Tensor, step: int) -> Tensor:
        x = functional.conv_transpose2d(x, self.state[f"deconv_{step}.1.weight"].double(), stride=2, padding=1)
        return self.b(x, f"deconv_{step}.2")

    def block(self, x: Tensor, number: int, kernel: int, stride: int, expand: int) -> Tensor:
        name, given = f"_blocks.{number}", x
        if expand > 1:
            x = swish(self.b(self.c(x, f"{name}._expand_conv"), f"{name}._bn0", 1e-3))
        padding = PADDING[number] if stride == 2 else (kernel // 2,) * 4
        x = self.c(functional.pad(x, padding), f"{name}._depthwise_conv", stride, groups=x.shape[1])
        x = swish(self.b(x, f"{name}._bn1", 1e-3))
        squeezed = swish(self.c(x.mean((2, 3), keepdim=True), f"{name}._se_reduce"))
        x = x * torch.sigmoid(self.c(squeezed, f"{name}._se_expand"))
        x = self.b(self.c(x, f"{name}._project_conv"), f"{name}._bn2", 1e-3)
        return x + given if x.shape == given.shape else x

    def network(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Heatmap logits, consistency features and the class logit; specification 1.1 to 1.3."""
        x = self.b(self.c(functional.pad(x, PADDING["stem"]), "_conv_stem", 2), "_bn0", 1e-3)
        x = swish(x)
        ends = {}
        for kernel, stride, expand, _, _, numbers in STAGES:
            for number in numbers:
                x = self.block(x, number, kernel, stride if number == numbers[0] else 1, expand)
            ends[numbers[-1]] = x
        c3, c4, c5 = ends[9], ends[21], ends[31]
        c6 = self.b(self.c(c5, "_conv_head"), "_bn1", 1e-3)
        p = self.unit(swish(c6), "deconv_1.0")
        p = torch.cat([p, (1 - torch.sigmoid(p)) * c5], 1)
        p = self.up(self.unit(p, "deconv_2.0"), 2)
        p = torch.cat([p, (1 - torch.sigmoid(p)) * c4], 1)
        p = self.up(self.unit(p, "deconv_3.0"), 3)
        p = torch.cat([p, (1 - torch.sigmoid(p)) * c3], 1)
        point = self.unit(p, "deconv_4.0.pw_block")
        paths = [point, *(self.unit(point, f"deconv_4.0.conv{k}_block") for k in (3, 5))]
        paths.append(self.unit(functional.max_pool2d(p, 3, 1, 1), "deconv_4.0.pw_block"))
        p = self.up(torch.cat(paths, 1), 4).relu()
        hm, features, cls = (self.unit(p, head) for head in ("hm", "cstency", "cls"))
        logit = functional.linear(
            cls.mean((2, 3)), self.state["cls.5.weight"].double(), self.state["cls.5.bias"].double()
        )
        return self.c(hm, "hm.3"), self.c(features, "cstency.3"), logit


@cache
def published() -> Published:
    return Published()


def written(state: dict[str, Tensor], path: Path, prefix: str = "") -> Path:
    """As the authors' code saves: float64, with the training's state beside it."""
    doubled = {prefix + k: v.double() if v.is_floating_point() else v for k, v in state.items()}
    torch.save({"epoch": 19, "state_dict": doubled, "optimizer": {"state": {}, "param_groups": []}}, path)
    return path


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_checkpoint_gives_the_published_network(tmp_path: Path, prefix: str) -> None:
    reference = published()
    assert len(reference.state) == 803
    config, state = LaaNet.import_checkpoint([written(reference.state, tmp_path / "best.pth", prefix)])
    assert config == create("laa_net", "paper").config
    model = LaaNet(LaaConfig(size=96, flip_test=False)).eval()
    model.load_state_dict(state)
    model.double()
    batch = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        output = model(batch)
        points, features, logit = reference.network(batch)
    for own, theirs in (
        (output.aux["points"], points[:, 0]),
        (output.aux["features"], features),
        (output.logit, logit[:, 0]),
    ):
        assert float(theirs.std()) > 1e-3
        assert torch.allclose(own, theirs, rtol=0, atol=1e-9 * float(theirs.abs().max()))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda s: s.pop("cstency.3.bias"), "missing: consistency_head.3.bias"),
        (lambda s: s.update({"inception_block.pw_block.0.weight": torch.zeros(28, 112, 1, 1)}), "should be the same"),
        (lambda s: s.pop("deconv_4.0.pw_block.0.weight"), "should be the same"),
        (lambda s: s.update({"deconv_5.0.weight": torch.zeros(112, 32, 3, 3)}), "unexpected: deconv_5.0.weight"),
        (lambda s: s.update({"hm.3.weight": torch.zeros(2, 64, 1, 1)}), "wrong shape: heatmap_head.3.weight"),
    ],
)
def test_another_network_is_refused_by_name(damage: Any, message: str, tmp_path: Path) -> None:
    state = dict(published().state)
    damage(state)
    with pytest.raises(CheckpointError, match=message):
        LaaNet.import_checkpoint([written(state, tmp_path / "other.pth")])


def test_the_parameters_are_the_papers() -> None:
    model = LaaNet(LaaConfig())
    assert count(model) == 27_128_786
    assert count(model.backbone) == 17_548_616
    assert [count(step) for step in model.decoder.steps] == [7_226_240, 1_700_480, 211_680, 200_928 + 29_960]
    inception = model.decoder.steps[3]
    assert isinstance(inception, nn.Sequential) and count(inception[0]) == 29_960
    assert [count(h) for h in (model.heatmap_head, model.class_head, model.consistency_head)] == [
        64_769,
        64_769,
        81_344,
    ]
    with torch.device("meta"):
        assert count(LaaNet(LaaConfig(use_c2=True))) == 27_354_802
        # Two matrices a concatenation, of its channels and a 16th of them.
        squeezed = 2 * (896 * 56 + 320 * 20 + 112 * 7)
        assert count(LaaNet(LaaConfig(squeeze=True))) == 27_128_786 + squeezed
        assert count(LaaNet(LaaConfig(squeeze=True, use_c2=True))) == 27_354_802 + squeezed + 2 * 224 * 14


def test_the_paper_network_sees_384_and_answers_on_96() -> None:
    model = LaaNet(LaaConfig()).eval()
    with torch.inference_mode():
        taps = model.backbone(torch.zeros(1, 3, 384, 384))
        assert [(t.shape[1], t.shape[2]) for t in taps] == [(32, 96), (56, 48), (160, 24), (448, 12), (1792, 12)]
        output = model(torch.zeros(1, 3, 384, 384))
    assert output.heatmap is not None and output.heatmap.shape == (1, 96, 96)
    assert output.aux["features"].shape == (1, 256, 96, 96)
    assert output.logit.shape == (1,)


def test_strided_convolutions_pad_for_380_pixels() -> None:
    model = LaaNet(LaaConfig())
    padded = {name: m.margins for name, m in model.named_modules() if isinstance(m, PaddedConv2d)}
    assert list(padded.values()) == list(PADDING.values())
    assert padded["backbone.net.blocks.2.0.conv_dw"] == (2, 2, 2, 2)


def test_backbone_and_decoder_have_their_own_norms() -> None:
    model = LaaNet(LaaConfig())
    for part, wanted in ((model.backbone, (1e-3, 0.01)), (model.decoder, (1e-5, 0.1))):
        norms = [(m.eps, m.momentum) for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
        assert norms and set(norms) == {wanted}
    drops = {n: m.drop_prob for n, m in model.named_modules() if n.endswith("drop_path") and hasattr(m, "drop_prob")}
    numbers = {n: int(re.findall(r"\d+", n)[1]) + STAGES[int(re.findall(r"\d+", n)[0])][5][0] for n in drops}
    assert drops and all(p == pytest.approx(0.2 * numbers[n] / 32, abs=1e-3) for n, p in drops.items())


def test_a_frozen_backbone_keeps_its_weights_while_its_statistics_move() -> None:
    frozen = LaaNet(LaaConfig(freeze_backbone=True))
    assert sum(p.numel() for p in frozen.parameters() if p.requires_grad) == 9_580_170
    model = light(freeze_backbone=True).train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    model(torch.rand(2, 3, 64, 64)).logit.sum().backward()
    assert all(p.grad is None for p in model.backbone.parameters())
    assert any(not torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items() if "running_mean" in k)


def test_compact_is_small_enough_to_ship() -> None:
    assert count(create("laa_net", "compact")) == 1_728_310


def test_the_start_is_the_published_one() -> None:
    model = LaaNet(LaaConfig())
    points, likeness = model.heatmap_head[-1], model.consistency_head[-1]
    assert isinstance(points, nn.Conv2d) and points.bias is not None and points.bias.item() == pytest.approx(-2.19)
    assert isinstance(likeness, nn.Conv2d) and likeness.weight.std().item() == pytest.approx((2 / 256) ** 0.5, rel=0.05)
    assert likeness.bias is not None and not likeness.bias.any()
    doubled = [m for m in model.decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [m.weight.std().item() for m in doubled] == [
        pytest.approx((2 / (16 * width)) ** 0.5, rel=0.05) for width in (160, 56, 112)
    ]


def test_a_skip_passes_only_where_the_decoder_is_not_sure() -> None:
    decoder = EFPN((4, 8, 8, 8, 8), 0.4, gated=True, use_c2=False, squeeze=False)
    skip = torch.full((1, 1, 1, 3), 5.0)
    joined = decoder._join(torch.tensor([[[[60.0, 0.0, -60.0]]]]), skip, 0)
    assert joined[0, 1, 0].tolist() == pytest.approx([0, 2.5, 5])
    assert joined[0, 0, 0].tolist() == [60, 0, -60]
    plain = EFPN((4, 8, 8, 8, 8), 0.4, gated=False, use_c2=False, squeeze=False)
    assert torch.equal(plain._join(skip, skip, 0)[:, 1:], skip)


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize("use_c2", [False, True])
@pytest.mark.parametrize("gated", [False, True])
def test_the_decoders_variants_are_the_published_ones(gated: bool, use_c2: bool, squeeze: bool) -> None:
    torch.manual_seed(0)
    decoder = EFPN((4, 8, 12, 16, 20), 0.4, gated, use_c2, squeeze).eval()
    shapes = ((4, 16), (8, 8), (12, 4), (16, 2), (20, 2))
    c2, c3, c4, c5, c6 = (torch.randn(2, width, side, side) for width, side in shapes)

    def join(found: Tensor, skip: Tensor, number: int) -> Tensor:
        x = torch.cat([found, (1 - found.sigmoid()) * skip if gated else skip], 1)
        if not squeeze:
            return x
        few, many = (p.flatten(1) for p in decoder.squeezes[number].parameters())
        return x * ((x.mean((2, 3)) @ few.T).relu() @ many.T).sigmoid()[..., None, None]

    x = join(decoder.steps[0](c6), c5, 0)
    x = join(decoder.steps[1](x), c4, 1)
    x = join(decoder.steps[2](x), c3, 2)
    *layers, last = decoder.steps[3].children()
    signed = nn.Sequential(*layers)(x) if isinstance(last, nn.ReLU) else decoder.steps[3](x)
    if use_c2:
        assert decoder.widen_c2 is not None
        x = join(signed if gated else signed.relu(), decoder.widen_c2(c2), 3)
    else:
        x = signed.relu()
    assert x.shape == (2, decoder.outputs, 16, 16)
    assert torch.allclose(decoder([c2, c3, c4, c5, c6]), x, atol=1e-6)


def test_the_shared_pointwise_norm_moves_four_times_a_pass() -> None:
    block = Inception(16).train()
    block(torch.rand(2, 16, 6, 6))
    assert {k: int(v) for k, v in block.state_dict().items() if "num_batches" in k} == {
        "pw_block.1.num_batches_tracked": 4,
        "conv3_block.1.num_batches_tracked": 1,
        "conv5_block.1.num_batches_tracked": 1,
    }


@pytest.mark.parametrize("options", [{"use_c2": True}, {"gated": False}, {"squeeze": True}])
def test_the_unpublished_variants_run_and_learn(options: dict[str, bool]) -> None:
    model = light(**options).train()
    output = model(torch.rand(2, 3, 64, 64))
    model.loss(output, Truth(torch.tensor([0.0, 1.0]))).backward()
    assert output.aux["points"].shape == (2, 32, 32)


def test_the_flip_test_is_the_mean_logit_of_image_and_mirror() -> None:
    both, one = light(flip_test=True), light(flip_test=False)
    batch = 10 * torch.randn(3, 3, 64, 64)  # an untrained network hardly tells weaker ones apart
    with torch.inference_mode():
        output, image, mirror = both(batch), one(batch), one(batch.flip(-1))
    assert torch.allclose(output.logit, (image.logit + mirror.logit) / 2, atol=1e-6)
    assert not torch.allclose(image.logit, mirror.logit, atol=1e-6)
    assert output.heatmap is not None and image.heatmap is not None
    assert torch.allclose(output.heatmap, image.heatmap, atol=1e-6)
    # Training sees each image once: its statistics are of the batch alone.
    for model in (both, one):
        torch.manual_seed(1)
        model.train()(batch)
    assert all(torch.equal(v, one.state_dict()[k]) for k, v in both.state_dict().items())


def soft_disc(size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    y, x = np.mgrid[:size, :size]
    distance = np.hypot(y - size / 2, x - size / 2)
    return np.clip((0.3 * size - distance) / 8 + 0.5, 0, 1).astype(np.float32)


@pytest.mark.parametrize(("model", "side"), [({}, 96), ({"arch": "mobilenetv1", "size": 144}, 72)])
def test_targets_are_on_the_heads_grid(model: dict[str, Any], side: int) -> None:
    detector = LaaNet(LaaConfig(**model))
    size = detector.config.size
    fake = detector.targets(soft_disc(size))
    assert {k: (v.shape, v.dtype) for k, v in fake.items()} == dict.fromkeys(
        ("heatmap", "consistency"), ((side, side), np.float32)
    )
    assert fake["heatmap"].max() == 1 and (fake["heatmap"] == 1).sum() >= 4
    y, x = np.argwhere(fake["consistency"] > 0.9).T
    assert np.allclose(np.hypot(y - side / 2, x - side / 2), 0.3 * side, atol=3)
    real = detector.targets(np.zeros((size, size), np.float32))
    assert not real["heatmap"].any() and not real["consistency"].any()


def test_the_border_is_warped_corner_to_corner_and_by_sampling() -> None:
    mask = soft_disc(64)
    levels = (4 * mask * (1 - mask) * 255).astype(np.uint8)
    at = np.linspace(0, 63, 32, dtype=np.float32)
    sampled = cv2.remap(levels, *np.meshgrid(at, at), interpolation=cv2.INTER_LINEAR)
    heatmap, likeness = encode_boundary(sampled)
    found = light().targets(mask)
    # OpenCV's fixed-point positions move a value by some of its 255 levels.
    assert np.allclose(found["consistency"], likeness, atol=0.03)
    assert np.abs(found["heatmap"] - heatmap).mean() < 0.02
    corner = np.zeros((64, 64), np.float32)
    corner[0, 0] = corner[63, 63] = 0.5
    assert np.argwhere(light(centred=True).targets(corner)["heatmap"] == 1).tolist() == [[0, 0], [31, 31]]


def test_settings_of_the_targets_reach_the_encoder() -> None:
    zeros = np.zeros((64, 64), np.float32)
    assert light(real_ones=True).targets(zeros)["consistency"].min() == 1
    mask = soft_disc(64)
    assert not np.array_equal(light().targets(mask)["heatmap"], light(centred=True).targets(mask)["heatmap"])


def test_the_heatmap_loss_by_hand() -> None:
    logits = torch.tensor([[[0.0, 1.0], [-1.0, 2.0]]])
    target = torch.tensor([[[1.0, 0.5], [0.0, 1.0]]])
    p = [1 / (1 + math.exp(-v)) for v in (0, 1, -1, 2)]
    positive = 0.72 * ((1 - p[0]) ** 2 * math.log(p[0]) + (1 - p[3]) ** 2 * math.log(p[3]))
    negative = 0.5**4 * p[1] ** 2 * math.log(1 - p[1]) + p[2] ** 2 * math.log(1 - p[2])
    assert heatmap_loss(logits, target).item() == pytest.approx(-(positive + negative) / 2, rel=1e-5)


def test_without_a_positive_the_heatmap_loss_is_not_divided() -> None:
    found = heatmap_loss(torch.zeros(2, 2, 2), torch.zeros(2, 2, 2))
    assert found.item() == pytest.approx(8 * 0.25 * math.log(2), rel=1e-5)


def test_a_wrong_and_certain_heatmap_has_a_finite_loss() -> None:
    target = torch.eye(2)[None]
    assert heatmap_loss((1 - 2 * target) * 1e4, target).item() == pytest.approx(
        (0.72 + 1) * 0.9999**2 * -math.log(1e-4), rel=1e-3
    )


def test_features_of_zero_are_half_alike_everywhere() -> None:
    found = consistency(torch.zeros(2, 256, 4, 4), torch.tensor([3, 0])).sigmoid()
    assert found.shape == (2, 4, 4) and bool((found == 0.5).all())
    loss = consistency_loss(torch.zeros(2, 256, 4, 4), torch.zeros(2, 4, 4))
    assert loss.item() == pytest.approx(math.log(2), rel=1e-6)


def test_likeness_is_to_the_first_highest_pixel() -> None:
    features = torch.zeros(1, 4, 2, 2)
    features[0, 0] = torch.tensor([[1.0, 2.0], [3.0, -4.0]])
    target = torch.tensor([[[0.0, 0.9], [0.9, 0.0]]])
    logits = [v * 2 / 2 for v in (1, 2, 3, -4)]  # anchor 2, root of four features 2
    wanted = [0.0, 0.9, 0.9, 0.0]
    by_hand = [math.log(1 + math.exp(x)) - y * x for x, y in zip(logits, wanted, strict=True)]
    assert consistency_loss(features, target).item() == pytest.approx(sum(by_hand) / 4, rel=1e-5)


def test_a_pixel_is_at_least_half_like_itself() -> None:
    features = torch.randn(3, 16, 5, 5)
    anchor = torch.tensor([0, 7, 24])
    own = consistency(features, anchor).flatten(1).gather(1, anchor[:, None])
    assert bool((own >= 0).all())


def test_the_loss_is_the_weighed_sum_and_knows_samples_without_maps() -> None:
    model = light()
    random = torch.Generator().manual_seed(0)
    aux = {
        "points": torch.randn(2, 32, 32, generator=random),
        "features": torch.randn(2, 8, 32, 32, generator=random),
    }
    output = DetectorOutput(torch.tensor([0.3, -0.2]), aux=aux)
    label = torch.tensor([1.0, 0.0])
    targets = [model.targets(m) for m in (soft_disc(64), np.zeros((64, 64), np.float32))]
    maps = {k: torch.from_numpy(np.stack([t[k] for t in targets])) for k in targets[0]}
    alone = functional.binary_cross_entropy_with_logits(output.logit, label)
    assert torch.equal(model.loss(output, Truth(label)), alone)
    whole = (
        alone
        + 10 * heatmap_loss(aux["points"], maps["heatmap"])
        + 100 * consistency_loss(aux["features"], maps["consistency"])
    )
    assert torch.allclose(model.loss(output, Truth(label, maps=maps)), whole)


def test_a_width_that_cannot_be_split_is_refused() -> None:
    with pytest.raises(ValidationError, match="the first even"):
        LaaConfig(arch="mobilenetv1", light=(7, 24, 32, 48))


@pytest.mark.parametrize(("arch", "size", "stride"), [("efficientnet_b4", 400, 32), ("mobilenetv1", 152, 16)])
def test_a_size_whose_maps_do_not_meet_is_refused(arch: str, size: int, stride: int) -> None:
    with pytest.raises(ValidationError, match=f"multiples of {stride} pixels, not {size}"):
        LaaConfig.model_validate({"arch": arch, "size": size})
