"""FWA and DSP-FWA: the published networks, the region of interest, the scores of faces and tracks."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from detectors.checkpoints import CheckpointError
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
