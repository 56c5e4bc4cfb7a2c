"""MesoNet: shapes of the paper, and the published weights give the published outputs."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detectors.methods.mesonet import MesoConfig, MesoNet
from detectors.registry import create


def network(arch: str) -> MesoNet:
    torch.manual_seed(0)
    return MesoNet(MesoConfig.model_validate({"arch": arch})).eval()


@pytest.mark.parametrize(("arch", "count"), [("meso4", 27_977), ("mesoinception4", 28_615)])
def test_the_networks_have_the_papers_parameters(arch: str, count: int) -> None:
    assert sum(p.numel() for p in network(arch).parameters()) == count


@pytest.mark.parametrize(("arch", "channels"), [("meso4", [8, 8, 16, 16]), ("mesoinception4", [11, 12, 16, 16])])
def test_the_stages_have_the_papers_shapes(arch: str, channels: list[int]) -> None:
    model = network(arch)
    value = torch.zeros(1, 3, 256, 256)
    shapes = []
    for stage in model.stages:
        value = stage(value)
        shapes.append(tuple(value.shape[1:]))
    assert shapes == [(c, s, s) for c, s in zip(channels, (128, 64, 32, 8), strict=True)]


def test_pixels_reach_the_network_between_0_and_1() -> None:
    batch = network("meso4").prepare(np.full((2, 256, 256, 3), 255, np.uint8))
    assert batch.shape == (2, 3, 256, 256)
    assert batch.dtype == torch.float32
    assert bool((batch == 1).all())


def test_channels_stay_red_green_blue() -> None:
    image = np.zeros((1, 256, 256, 3), np.uint8)
    image[..., 0] = 255
    assert network("meso4").prepare(image).mean((0, 2, 3)).tolist() == [1, 0, 0]


@pytest.mark.parametrize("wrong", [np.zeros((1, 128, 128, 3), np.uint8), np.zeros((1, 256, 256, 3), np.float32)])
def test_another_size_or_type_is_refused(wrong: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match=r"mesonet takes uint8 RGB \(B, 256, 256, 3\)"):
        network("meso4").prepare(wrong)


def test_a_smaller_crop_makes_a_smaller_network() -> None:
    model = create("mesonet", config=MesoConfig(size=128))
    assert model(model.prepare(np.zeros((2, 128, 128, 3), np.uint8))).logit.shape == (2,)


GOLDEN_CASES = range(40)


@cache
def golden(shared: Path) -> tuple[list[dict[str, Any]], dict[str, NDArray[np.uint8]]]:
    folder = shared / "golden"
    cases = json.loads((folder / "mesonet.json").read_text())["cases"]
    with np.load(folder / "mesonet" / "inputs_256_uint8.npz") as pixels:
        return cases, dict(pixels)


@cache
def published(shared: Path, weights: str) -> MesoNet:
    config, state = MesoNet.import_checkpoint([shared / "golden" / "mesonet" / "weights" / f"{weights}.h5"])
    model = MesoNet(config)
    model.load_state_dict(state)
    return model.eval()


def golden_input(case: dict[str, Any], pixels: dict[str, NDArray[np.uint8]]) -> NDArray[np.uint8]:
    if case["input"] == "zeros":
        return np.zeros((1, 256, 256, 3), np.uint8)
    if case["input"] == "synthetic":
        y, x, c = np.mgrid[:256, :256, :3]
        return ((7 * y + 13 * x + 29 * c) % 256).astype(np.uint8)[None]
    return pixels[f"{case['input'].removesuffix('.jpg').replace('/', '__')}__{case['resize']}"][None]


@pytest.mark.parametrize("number", GOLDEN_CASES)
def test_published_weights_give_the_published_outputs(shared: Path, number: int) -> None:
    cases, pixels = golden(shared)
    assert len(cases) == len(GOLDEN_CASES)
    case = cases[number]
    image = golden_input(case, pixels)
    model = published(shared, case["weights"])
    for dtype, probability, logit in ((torch.float32, 1e-5, 2e-4), (torch.float64, 1e-9, 1e-9)):
        model.to(dtype)
        with torch.inference_mode():
            output = model(model.prepare(image))
        # The published output is P(real).
        assert torch.sigmoid(-output.logit).item() == pytest.approx(case["probability"], abs=probability)
        assert -output.logit.item() == pytest.approx(case["logit"], abs=logit)
        assert np.allclose(output.aux["hidden"][0], case["hidden16_preactivation_float64"], rtol=1e-6, atol=2e-4)


def test_a_published_forgery_scores_high_and_a_real_face_low(shared: Path) -> None:
    _, pixels = golden(shared)
    model = published(shared, "MesoInception_DF").float()
    with torch.inference_mode():
        fake = model(model.prepare(pixels["df__df00204__nearest"][None])).logit.item()
        real = model(model.prepare(pixels["real__real00240__nearest"][None])).logit.item()
    assert fake > 0 > real
