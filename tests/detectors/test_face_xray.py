"""Face X-ray: the published network and key layout, its targets, its loss by hand."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from detectors.base import DetectorOutput, Truth
from detectors.checkpoints import CheckpointError
from detectors.methods.face_xray import FaceXray, FaceXrayConfig
from detectors.registry import create
from preprocessing.blending.targets import face_xray

COMPACT = FaceXrayConfig(arch="mobilenetv1", size=64)


@cache
def published() -> tuple[dict[str, Tensor], FaceXray]:
    """A state dict in the layout of the published repository, and a network with the same numbers, by other means."""
    import timm

    torch.manual_seed(0)
    hrnet = timm.create_model("hrnet_w18")  # has the classification head that the published files carry along
    for module in hrnet.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.get_buffer("running_mean"), 0, 0.1)
            torch.nn.init.uniform_(module.get_buffer("running_var"), 0.5, 1.5)
    own = FaceXray(FaceXrayConfig()).eval()
    own.backbone.load_state_dict({k: v for k, v in hrnet.state_dict().items() if k in own.backbone.state_dict()})
    state = {f"HRNet_layer.{key}": value for key, value in hrnet.state_dict().items()}
    for key, value in own.state_dict().items():
        for old, new in (("xray.", "one_channel_conv."), ("classifier.", "cls_layer.2.")):
            if key.startswith(old):
                state[new + key.removeprefix(old)] = value
    return state, own


def written(state: dict[str, Tensor], path: Path, prefix: str = "") -> Path:
    """As the repository saves: wrapped, with the training's state beside it."""
    content = {"epoch": 30, "best_auc": 0.99, "state_dict": {prefix + k: v for k, v in state.items()}, "optimizer": {}}
    torch.save(content, path)
    return path


def batch(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_the_network_has_the_published_parameters_and_entries() -> None:
    state, own = published()
    assert len(state) == 1960
    parameters = {k: v.numel() for k, v in state.items() if "running" not in k and "num_batches" not in k}
    assert sum(parameters.values()) == 21_299_279
    head = ("incre_modules", "downsamp_modules", "final_layer", "classifier")
    assert sum(n for k, n in parameters.items() if k.removeprefix("HRNet_layer.").startswith(head)) == 11_736_744
    assert sum(p.numel() for p in own.parameters()) == 9_562_535
    assert sum(p.numel() for p in own.xray.parameters()) == 271
    assert sum(p.numel() for p in own.classifier.parameters()) == 4


def test_the_published_names_are_the_papers_branches() -> None:
    state, _ = published()
    for key, shape in {
        "HRNet_layer.conv1.weight": (64, 3, 3, 3),
        "HRNet_layer.layer1.0.downsample.0.weight": (256, 64, 1, 1),
        "HRNet_layer.transition1.0.0.weight": (18, 256, 3, 3),
        "HRNet_layer.transition1.1.0.0.weight": (36, 256, 3, 3),
        "HRNet_layer.transition2.2.0.0.weight": (72, 36, 3, 3),
        "HRNet_layer.transition3.3.0.0.weight": (144, 72, 3, 3),
        "HRNet_layer.stage3.3.fuse_layers.2.0.1.0.weight": (72, 18, 3, 3),
        "HRNet_layer.stage4.2.branches.3.3.conv2.weight": (144, 144, 3, 3),
        "HRNet_layer.stage4.2.fuse_layers.0.3.0.weight": (18, 144, 1, 1),
        "one_channel_conv.weight": (1, 270, 1, 1),
        "cls_layer.2.weight": (2, 1),
    }.items():
        assert tuple(state[key].shape) == shape
    assert not any(key.startswith(("HRNet_layer.transition2.0", "HRNet_layer.transition3.2")) for key in state)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_published_checkpoint_gives_the_published_answer(tmp_path: Path, prefix: str) -> None:
    state, own = published()
    config, found = FaceXray.import_checkpoint([written(state, tmp_path / "best.pth", prefix)])
    assert config == FaceXrayConfig()
    model = FaceXray(config).eval()
    model.load_state_dict(found)
    images = batch(1, 256)
    with torch.inference_mode():
        output = model(images)
        # The published forward, from the branches on: enlarge, join, convolve, enlarge, and only then the sigmoid.
        first, *others = own.backbone(images)
        assert [tuple(m.shape[1:]) for m in (first, *others)] == [(18, 64, 64), (36, 32, 32), (72, 16, 16), (144, 8, 8)]
        up = torch.nn.Upsample((64, 64), mode="bilinear", align_corners=True)
        small = functional.conv2d(
            torch.cat([first, *map(up, others)], 1), state["one_channel_conv.weight"], state["one_channel_conv.bias"]
        )
        map_ = torch.nn.Upsample(scale_factor=4, mode="bilinear", align_corners=True)(small).sigmoid()
        mean = functional.adaptive_avg_pool2d(map_, 1).flatten(1)
        probability = functional.linear(mean, state["cls_layer.2.weight"], state["cls_layer.2.bias"]).softmax(1)[:, 1]
    assert map_.shape == (1, 1, 256, 256)
    assert output.heatmap is not None
    assert torch.allclose(output.heatmap, map_[:, 0], atol=1e-5)
    assert torch.allclose(output.logit.sigmoid(), probability, atol=1e-5)


def test_another_network_is_refused(tmp_path: Path) -> None:
    state, _ = published()
    cut = {k: v for k, v in state.items() if "stage4" not in k}
    with pytest.raises(CheckpointError, match=r"best.pth does not fit; missing: backbone\.stage4"):
        FaceXray.import_checkpoint([written(cut, tmp_path / "best.pth")])
    wide = state | {"one_channel_conv.weight": torch.zeros(1, 720, 1, 1)}
    with pytest.raises(CheckpointError, match=r"wrong shape: xray\.weight is \(1, 720, 1, 1\)"):
        FaceXray.import_checkpoint([written(wide, tmp_path / "best.pth")])


def test_a_real_face_has_no_border_and_a_blend_is_brightest_where_both_weigh_the_same() -> None:
    model = FaceXray(COMPACT)
    assert not model.targets(np.zeros((64, 64), np.float32))["xray"].any()
    mask = np.tile(np.linspace(0, 1, 65, dtype=np.float32), (65, 1))
    border = model.targets(mask)["xray"]
    assert border.max() == border[0, 32] == 1
    assert border[0, 0] == border[0, 64] == 0
    assert border.dtype == np.float32
    assert np.abs(border - face_xray(mask)).max() < 1 / 255


def test_the_loss_is_lambda_times_the_maps_plus_the_classifiers() -> None:
    border = torch.tensor([[[0.0, 0.5], [1.0, 0.25]]])
    output = DetectorOutput(torch.tensor([0.3]), aux={"xray": torch.tensor([[[-2.0, 0.0], [3.0, 1.0]]])})
    p = output.aux["xray"].sigmoid()
    borders = -(border * p.log() + (1 - border) * (1 - p).log()).mean()
    classes = -torch.log_softmax(torch.tensor([-0.1, 0.2]), 0)[1]  # any two logits 0.3 apart
    label = torch.tensor([1.0])
    for weight in (100.0, 1000.0):
        model = FaceXray(COMPACT.model_copy(update={"xray_weight": weight}))
        assert model.loss(output, Truth(label)).item() == pytest.approx(classes.item(), rel=1e-6)
        full = model.loss(output, Truth(label, maps={"xray": border}))
        assert full.item() == pytest.approx((weight * borders + classes).item(), rel=1e-6)


def test_the_maps_loss_stays_finite_in_half_precision() -> None:
    model = FaceXray(COMPACT)
    output = DetectorOutput(torch.tensor([0.0]), aux={"xray": torch.full((1, 4, 4), -300.0, dtype=torch.float16)})
    loss = model.loss(output, Truth(torch.tensor([1.0]), maps={"xray": torch.ones(1, 4, 4)}))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(100 * 300, rel=1e-3)


def test_the_score_follows_the_mean_of_the_map() -> None:
    torch.manual_seed(0)
    model = FaceXray(COMPACT).eval()
    with torch.inference_mode():
        output = model(batch(6, 64))
        assert output.heatmap is not None and output.heatmap.shape == (6, 64, 64)
        assert torch.equal(output.logit.argsort(), output.heatmap.mean((1, 2)).argsort())


def test_compact_is_small() -> None:
    assert sum(p.numel() for p in create("face_xray").parameters()) == 1_664_965


@pytest.mark.parametrize(("frozen", "moving"), [("none", True), ("weights", True), ("all", False)])
def test_a_frozen_backbone_may_keep_its_statistics_or_not(frozen: str, moving: bool) -> None:
    model = FaceXray(FaceXrayConfig.model_validate({**COMPACT.model_dump(), "frozen": frozen})).train()
    before = {k: v.clone() for k, v in model.backbone.named_buffers() if "running" in k}
    model(batch(2, 64)).logit.sum().backward()
    assert all(p.grad is not None for p in model.xray.parameters())
    assert all((p.grad is not None) == (frozen == "none") for p in model.backbone.parameters())
    assert any(not torch.equal(before[k], v) for k, v in model.backbone.named_buffers() if k in before) == moving
