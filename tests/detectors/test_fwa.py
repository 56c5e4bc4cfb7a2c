"""FWA and DSP-FWA: the published networks, the region of interest, the scores of faces and tracks."""

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tf_bundle
import torch
from hypothesis import given
from hypothesis import strategies as st
from keras_files import same
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from detectors.checkpoints import CheckpointError
from detectors.importers import import_weights
from detectors.methods.fwa import (
    FWA,
    FWAConfig,
    SpatialPyramid,
    face_regions,
    face_score,
    landmark_region,
    slim_resnet50,
)
from detectors.registry import create
from detectors.store import load


@cache
def published() -> tuple[dict[str, Tensor], torch.nn.Module]:
    """A state dict in the layout of SPP-res50.pth, and torchvision's network that it comes from."""
    from torchvision.models import resnet50

    torch.manual_seed(0)
    network = resnet50(weights=None).eval()
    state = {f"resnet.resnet.{key}": value for key, value in network.state_dict().items()}
    state |= {"resnet.fc.weight": torch.randn(2, 2048), "resnet.fc.bias": torch.randn(2)}
    return state | {"classifier.weight": torch.randn(2, 83_968) * 0.01, "classifier.bias": torch.randn(2)}, network


@cache
def paper() -> FWA:
    return FWA(FWAConfig()).eval()


def square_face(x1: float, y1: float, x2: float, y2: float) -> NDArray[np.float64]:
    """68 points whose bounding box this is."""
    points = np.random.default_rng(0).uniform((x1, y1), (x2, y2), (68, 2))
    points[:2] = (x1, y1), (x2, y2)
    return points


def test_the_checkpoint_has_the_published_parameters() -> None:
    state, _ = published()
    weights = {k: v for k, v in state.items() if "running" not in k and "num_batches" not in k}
    assert sum(v.numel() for v in weights.values()) == 25_729_068
    unused = sum(v.numel() for k, v in weights.items() if k.startswith(("resnet.resnet.fc.", "resnet.fc.")))
    assert sum(p.numel() for p in paper().parameters()) == 25_729_068 - unused == 23_675_970


def test_224_pixels_give_the_published_number_of_features() -> None:
    with torch.inference_mode():
        maps = paper().backbone(torch.zeros(1, 3, 224, 224))
    assert maps.shape == (1, 2048, 7, 7)
    assert SpatialPyramid(7)(maps).shape == (1, 83_968)
    assert paper().output.in_features == 83_968


def test_the_pyramid_goes_level_by_level_channel_by_channel_row_by_row() -> None:
    rows = torch.arange(7.0)[None, None, :, None].expand(1, 1, 7, 7)
    columns = rows.transpose(2, 3)
    features = SpatialPyramid(7)(torch.cat([rows, columns], 1))[0]
    one, two, six = features.split([2 * 1, 2 * 4, 2 * 36])
    assert one.tolist() == [6, 6]
    assert two.tolist() == [3, 3, 6, 6, 3, 6, 3, 6]
    assert six[:36].tolist() == [row for row in range(1, 7) for _ in range(6)]
    assert six[36:].tolist() == [column for _ in range(6) for column in range(1, 7)]


@pytest.mark.parametrize("side", [6, 7])
def test_on_published_sizes_the_pyramid_is_adaptive_pooling(side: int) -> None:
    maps = torch.randn(2, 3, side, side)
    expected = [functional.adaptive_max_pool2d(maps, n).flatten(1) for n in (1, 2, 6)]
    assert torch.equal(SpatialPyramid(side)(maps), torch.cat(expected, 1))


@pytest.mark.parametrize("size", [160, 256])
def test_a_size_that_the_pyramid_cannot_divide_is_refused(size: int) -> None:
    with pytest.raises(ValidationError, match=f"{size} px give a map of .* 192 and 224 px work"):
        FWAConfig(size=size)


def test_a_published_checkpoint_gives_the_published_answer(tmp_path: Path) -> None:
    state, network = published()
    path = tmp_path / "SPP-res50.pth"
    torch.save({"net": {f"module.{k}": v for k, v in state.items()}, "epoch": 99}, path)
    config, found = FWA.import_checkpoint([path])
    model = FWA(config).eval()
    model.load_state_dict(found)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    # As published: blue first, 0..255 less the mean; class 0 is fake.
    bgr = torch.from_numpy(pixels[..., ::-1].astype(np.float32)) - torch.tensor([103.939, 116.779, 123.68])
    with torch.inference_mode():
        maps = torch.nn.Sequential(*list(network.children())[:-2])(bgr.permute(0, 3, 1, 2))
        pyramid = [functional.max_pool2d(maps, k, s).flatten(1) for k, s in ((7, 7), (4, 3), (2, 1))]
        logits = functional.linear(torch.cat(pyramid, 1), state["classifier.weight"], state["classifier.bias"])
        found_logits = model(model.prepare(pixels)).logit
    assert torch.allclose(found_logits, logits[:, 0] - logits[:, 1], rtol=1e-4, atol=1e-3)
    assert torch.allclose(found_logits.sigmoid(), logits.softmax(1)[:, 0], atol=1e-4)


def test_another_network_is_refused(tmp_path: Path) -> None:
    state, _ = published()
    path = tmp_path / "SPP-res18.pth"
    torch.save({"net": {k: v for k, v in state.items() if "layer4" not in k}, "epoch": 1}, path)
    with pytest.raises(CheckpointError, match=r"SPP-res18.pth does not fit; missing: backbone\.layer4"):
        FWA.import_checkpoint([path])


def test_fwas_first_network_halves_the_map_at_the_end_of_a_stage() -> None:
    network = slim_resnet50().eval()
    sizes = {}
    for name in ("maxpool", "layer1", "layer2", "layer3", "layer4"):
        module = network.get_submodule(name)
        module.register_forward_hook(lambda _, __, out, name=name: sizes.update({name: out.shape[-1]}))
    with torch.inference_mode():
        network(torch.zeros(1, 3, 224, 224))
    assert sizes == {"maxpool": 56, "layer1": 28, "layer2": 14, "layer3": 7, "layer4": 7}
    plain = FWA(FWAConfig(arch="resnet50")).eval()
    assert sum(p.numel() for p in plain.parameters()) == 23_512_130
    assert plain(torch.zeros(2, 3, 224, 224)).logit.shape == (2,)


class Slim:
    """A random ResNet-50 v1 in TF-slim's names and layouts, and what TensorFlow computes with it, layer by layer."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(0)
        self.tensors: dict[str, NDArray[np.generic]] = {}

    def conv(self, name: str, x: Tensor, out: int, k: int, stride: int = 1, relu: bool = True) -> Tensor:
        """Convolution and batch norm (epsilon 1e-5). Where it strides, k - 1 pixels are laid around first."""
        fan, r = k * k * x.shape[1], self.random
        kernel = r.normal(0, (2 / fan) ** 0.5, (k, k, x.shape[1], out)).astype(np.float32)
        # As after training, the values stay small from layer to layer: pixels are large, and blocks add up.
        variance = (r.uniform(0.5, 1.5, out) * (1e4 if name == "conv1" else 1)).astype(np.float32)
        gamma = (r.uniform(0.5, 1.5, out) * (0.3 if name.endswith("conv3") else 1)).astype(np.float32)
        beta, mean = (r.normal(0, 0.2, out).astype(np.float32) for _ in range(2))
        scope = f"resnet_v1_50/{name}"
        self.tensors[f"{scope}/weights"] = kernel
        norm = {"gamma": gamma, "beta": beta, "moving_mean": mean, "moving_variance": variance}
        self.tensors |= {f"{scope}/BatchNorm/{leaf}": array for leaf, array in norm.items()}
        x = same(x, k, 1, 0.0) if stride == 1 else functional.pad(x, ((k - 1) // 2, k - 1 - (k - 1) // 2) * 2)
        x = functional.conv2d(x, torch.from_numpy(kernel).permute(3, 2, 0, 1), None, stride)
        g, b, m, v = (torch.from_numpy(a)[:, None, None] for a in (gamma, beta, mean, variance))
        x = g * (x - m) / torch.sqrt(v + 1e-5) + b
        return x.relu() if relu else x

    def __call__(self, x: Tensor) -> Tensor:
        """Pixels (B, 3, 224, 224), blue first, less their means, to logits (B, 2)."""
        x = self.conv("conv1", x, 64, 7, 2)
        x = functional.max_pool2d(same(x, 3, 2, -torch.inf), 3, 2)
        for block, (depth, units) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3)), 1):
            for unit in range(1, units + 1):
                stride = 2 if unit == units and block < 4 else 1
                name, out = f"block{block}/unit_{unit}/bottleneck_v1", 4 * depth
                same_depth = x.shape[1] == out
                shortcut = x[:, :, ::stride, ::stride]
                if not same_depth:
                    shortcut = self.conv(f"{name}/shortcut", x, out, 1, stride, relu=False)
                x = self.conv(f"{name}/conv2", self.conv(f"{name}/conv1", x, depth, 1), depth, 3, stride)
                x = (self.conv(f"{name}/conv3", x, out, 1, relu=False) + shortcut).relu()
        kernel = self.random.normal(0, 2048**-0.5, (1, 1, 2048, 2)).astype(np.float32)
        bias = self.random.normal(0, 1, 2).astype(np.float32)
        self.tensors |= {"resnet_v1_50/logits/weights": kernel, "resnet_v1_50/logits/biases": bias}
        return x.mean((2, 3)) @ torch.from_numpy(kernel[0, 0]) + torch.from_numpy(bias)


@cache
def slim() -> tuple[dict[str, NDArray[np.generic]], NDArray[np.uint8], Tensor]:
    """Tensors of a checkpoint of FWA's first network, pictures, and the network's logits for them."""
    network = Slim()
    pixels = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)
    bgr = torch.from_numpy(pixels[..., ::-1].astype(np.float32)) - torch.tensor([103.939, 116.779, 123.68])
    with torch.inference_mode():
        logits = network(bgr.permute(0, 3, 1, 2))
    return network.tensors, pixels, logits


def shapes_only(**changes: tuple[int, ...]) -> dict[str, NDArray[np.generic]]:
    """The same tensors without their values, which cost no time to check; `changes`: of another shape."""
    names = {name.removeprefix("resnet_v1_50/").replace("/", "_"): name for name in slim()[0]}
    found: dict[str, NDArray[np.generic]] = {n: np.broadcast_to(np.float32(0), a.shape) for n, a in slim()[0].items()}
    return found | {names[key]: np.zeros(shape, np.float32) for key, shape in changes.items()}


def test_fwas_tensorflow_checkpoint_gives_tensorflows_answer(tmp_path: Path) -> None:
    tensors, pixels, logits = slim()
    assert sum(a.size for name, a in tensors.items() if "moving" not in name) == 23_512_130
    left_over: dict[str, NDArray[np.generic]] = {
        "global_step": np.array(4_000, np.int64),
        "resnet_v1_50/conv1/weights/Momentum": np.ones(3, np.float32),
    }
    index = tf_bundle.write_bundle(tmp_path / "model", tensors | left_over)
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "model"')
    card = import_weights("fwa", [tmp_path / "model"], store=tmp_path / "store", licence="not for commercial use")
    assert (card.name, card.config["arch"]) == ("fwa-model", "resnet50")
    for file in (index, tmp_path / "model.data-00000-of-00001"):
        assert f"{file.name} sha256 {hashlib.sha256(file.read_bytes()).hexdigest()}" in card.command
    model = load("fwa", "paper", tmp_path / "store").detector
    with torch.inference_mode():
        found = model(model.prepare(pixels)).logit
    assert torch.allclose(found, logits[:, 0] - logits[:, 1], atol=1e-4)
    assert torch.allclose(found.sigmoid(), logits.softmax(1)[:, 0], atol=1e-5)
    assert np.ptp(found.numpy()) > 0.01


def test_slim_tensors_of_another_shape_are_named(tmp_path: Path) -> None:
    norm = "block2_unit_1_bottleneck_v1_shortcut_BatchNorm_gamma"
    changed = shapes_only(logits_weights=(1, 1, 2048, 1000), conv1_weights=(64, 3, 7, 7), **{norm: (1,)})
    with pytest.raises(CheckpointError) as refusal:
        FWA.import_checkpoint([tf_bundle.write_bundle(tmp_path / "model", changed)])
    for named in (
        "resnet_v1_50/conv1/weights is (64, 3, 7, 7) and should be (7, 7, 3, 64)",
        "resnet_v1_50/block2/unit_1/bottleneck_v1/shortcut/BatchNorm/gamma is (1,) and should be (512,)",
        "resnet_v1_50/logits/weights is (1, 1, 2048, 1000) and should be (1, 1, 2048, 2)",
    ):
        assert named in str(refusal.value)


def test_missing_and_surplus_slim_tensors_are_named(tmp_path: Path) -> None:
    tensors = shapes_only()
    del tensors["resnet_v1_50/block3/unit_6/bottleneck_v1/conv2/BatchNorm/moving_mean"]
    tensors["resnet_v1_50/block3/unit_7/bottleneck_v1/conv1/weights"] = np.zeros((1, 1, 8, 8), np.float32)
    tensors["resnet_v1_50/conv1/weights/ExponentialMovingAverage"] = np.zeros(4, np.float32)
    index = tf_bundle.write_bundle(tmp_path / "model", tensors)
    with pytest.raises(CheckpointError) as refusal:
        FWA.import_checkpoint([index])
    assert str(refusal.value) == (
        "model.index does not fit; missing: resnet_v1_50/block3/unit_6/bottleneck_v1/conv2/BatchNorm/moving_mean; "
        "unexpected: resnet_v1_50/block3/unit_7/bottleneck_v1/conv1/weights"
    )


def test_another_slim_network_and_the_old_format_are_named(tmp_path: Path) -> None:
    other: dict[str, NDArray[np.generic]] = {
        "vgg_16/fc8/weights": np.zeros(2, np.float32),
        "global_step": np.array(1, np.int64),
    }
    with pytest.raises(CheckpointError, match=r"holds global_step, vgg_16; .* resnet_v1_50 is the one that is read"):
        FWA.import_checkpoint([tf_bundle.write_bundle(tmp_path / "model", other)])
    old = tmp_path / "resnet_v1_50.ckpt"
    old.write_bytes(tf_bundle.table([(b"", tf_bundle.message(1, b""))]))
    with pytest.raises(CheckpointError, match=r"old one-file format \(V1\)"):
        FWA.import_checkpoint([old])


def test_without_margins_the_region_is_the_landmarks_box() -> None:
    assert landmark_region(square_face(100.7, 50.2, 200.9, 190.5), 640, 480, 0, 0) == (100, 50, 200, 190)


def test_the_margin_is_the_same_on_both_sides_and_half_below() -> None:
    assert landmark_region(square_face(100, 50, 200, 190), 640, 480, 12, 21) == (88, 29, 212, 200)


def test_the_region_ends_at_the_frames_last_pixel() -> None:
    assert landmark_region(square_face(3, 4, 638, 478), 640, 480, 20, 20) == (0, 0, 639, 479)


def test_regions_follow_numpys_legacy_generator_and_leave_the_programs_alone() -> None:
    points = square_face(100, 50, 220, 200)  # dx below 15, dy below 30
    np.random.seed(123)  # noqa: NPY002
    before = np.random.get_state()[1].tolist()  # type: ignore[index] # noqa: NPY002
    regions = face_regions(points, 640, 480)
    assert np.random.get_state()[1].tolist() == before  # type: ignore[index] # noqa: NPY002
    assert len(regions) == 10
    for seed, region in enumerate(regions):
        np.random.seed(seed)  # noqa: NPY002
        dx, dy = np.random.randint(0, 15), np.random.randint(0, 30)  # noqa: NPY002
        assert region == (100 - dx, 50 - dy, 220 + dx, int(200 + dy / 2))


@given(x=st.floats(0, 600), y=st.floats(0, 440), w=st.floats(0, 300), h=st.floats(0, 300))
def test_regions_of_any_face_lie_in_the_frame(x: float, y: float, w: float, h: float) -> None:
    points = square_face(x, y, min(x + w, 639), min(y + h, 479))
    for left, top, right, bottom in face_regions(points, 640, 480):
        assert 0 <= left <= right <= 639
        assert 0 <= top <= bottom <= 479


def test_a_faces_score_is_the_mean_of_its_five_highest_regions() -> None:
    assert face_score([3, 0, 9, 1, 8, 2, 7, 5, 6, 4]) == 7
    assert face_score([]) is None


def test_a_tracks_score_is_the_mean_of_the_highest_third_of_its_scored_frames() -> None:
    probabilities = np.array([0.1, 0.9, 0.2, 0.7, 0.3, 0.4, 0.5], np.float64)
    logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    assert FWA.track_logit(logits) == pytest.approx(np.log(0.8 / 0.2), abs=1e-6)
    assert FWA.track_logit(logits[:2]) == pytest.approx(np.log(0.9 / 0.1), abs=1e-6)
    assert np.isfinite(FWA.track_logit(np.array([1000.0, 900.0, -900.0], np.float32)))


def test_pixels_reach_the_network_in_rgb_less_the_mean() -> None:
    pixels = np.zeros((1, 224, 224, 3), np.uint8)
    pixels[..., 0] = 255
    expected = [(255 - 123.68) / 255 / 0.229, -116.779 / 255 / 0.224, -103.939 / 255 / 0.225]
    assert paper().prepare(pixels)[0, :, 0, 0].tolist() == pytest.approx(expected, abs=1e-5)


def test_compact_is_small() -> None:
    assert sum(p.numel() for p in create("fwa").parameters()) == 1_655_106
