"""C3D and conv3d: shapes and parameters of the specification, and Keras files give what Keras computes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_files import write_keras
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from detectors.base import Truth
from detectors.checkpoints import CheckpointError
from detectors.methods.c3d import C3D, REFERENCE_FIRST_POOL, C3DConfig
from detectors.registry import create
from preprocessing.inputs import ClipInput, FaceInput
from train.start import start_from

C3D_MAPS = [(64, 16, 56, 56), (128, 8, 28, 28), (256, 4, 14, 14), (512, 2, 7, 7), (512, 1, 4, 4)]
CONV3D_MAPS = [(64, 8, 56, 112), (128, 4, 28, 56), (128, 2, 14, 28), (256, 1, 7, 14), (256, 1, 4, 7)]


def network(**config: Any) -> C3D:
    torch.manual_seed(0)
    return C3D(C3DConfig(**config)).eval()


def counted(**config: Any) -> int:
    """Parameters, without the memory for them."""
    with torch.device("meta"):
        return sum(p.numel() for p in C3D(C3DConfig(**config)).parameters())


@pytest.mark.parametrize(("length", "count"), [(16, 48_635_650), (25, 48_635_650), (32, 65_412_866)])
def test_c3d_has_the_published_parameters(length: int, count: int) -> None:
    assert counted(length=length) == count


@pytest.mark.parametrize("length", [16, 25, 32])
def test_conv3d_has_the_published_parameters(length: int) -> None:
    assert counted(arch="conv3d", length=length, first_pool=REFERENCE_FIRST_POOL) == 22_206_338


def test_compact_is_small_enough_to_ship() -> None:
    assert sum(p.numel() for p in create("c3d", "compact").parameters()) == 1_188_026


@pytest.mark.parametrize(("arch", "pool", "maps"), [("c3d", (1, 2, 2), C3D_MAPS), ("conv3d", (2, 2, 1), CONV3D_MAPS)])
def test_the_stages_have_the_published_shapes(arch: str, pool: Any, maps: list[tuple[int, ...]]) -> None:
    with torch.device("meta"):
        model = C3D(C3DConfig.model_validate({"arch": arch, "first_pool": pool}))
        value, shapes = torch.zeros(1, 3, 16, 112, 112), []
        for stage in model.stages:
            value = stage(value)
            shapes.append(tuple(value.shape[1:]))
    assert shapes == maps


@pytest.mark.parametrize("arch", ["c3d", "conv3d"])
def test_the_first_pool_is_an_option(arch: str) -> None:
    small = {"arch": arch, "length": 32, "size": 64, "multiplier": 1 / 16, "hidden": 8}
    for pool in ((1, 2, 2), REFERENCE_FIRST_POOL):
        model = network(**small, first_pool=pool)
        assert model(torch.rand(1, 32, 3, 64, 64)).logit.shape == (1,)


def test_a_clip_too_short_for_five_pools_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing is left of 8 frames after five pools"):
        network(length=8)


def test_without_time_it_is_a_network_of_stills() -> None:
    model = network(length=1, multiplier=1 / 16, hidden=8, size=64)
    assert model.input == FaceInput(64, 1.6)
    assert model(torch.rand(2, 3, 64, 64)).logit.shape == (2,)


@pytest.mark.parametrize("norm", [False, True])
def test_a_network_of_clips_that_starts_from_one_of_stills_takes_a_clip_that_stands_still_for_the_picture(
    norm: bool, tmp_path: Path
) -> None:
    small = {"multiplier": 1 / 16, "hidden": 8, "size": 64, "batch_norm": norm}
    stills, clips = network(**small, length=1), network(**small, length=16)
    for module in stills.modules():  # unlike any initialisation
        if isinstance(module, nn.Conv3d | nn.Linear | nn.BatchNorm3d):
            nn.init.uniform_(module.bias, -0.1, 0.3)
    save_file(stills.state_dict(), tmp_path / "stills.safetensors")
    (started,) = start_from(clips, tmp_path / "stills.safetensors")
    assert started.part == "" and not started.missing
    pictures = torch.rand(3, 3, 64, 64)
    with torch.inference_mode():
        alone = stills(pictures).logit
        torch.testing.assert_close(clips(pictures[:, None].expand(-1, 16, -1, -1, -1)).logit, alone)
    assert len(alone.unique()) == 3


def test_it_takes_clips_of_consecutive_frames() -> None:
    spec = create("c3d", "compact").input
    assert isinstance(spec, ClipInput) and (spec.length, spec.stride, spec.face.size) == (16, 1, 112)


def test_the_order_of_the_frames_matters() -> None:
    model = network(multiplier=1 / 16, hidden=8, size=64)
    clip = torch.rand(1, 16, 3, 64, 64)
    with torch.inference_mode():
        assert not torch.allclose(model(clip).aux["classes"], model(clip.flip(1)).aux["classes"], atol=1e-6)


def test_the_penalty_is_kerass() -> None:
    output_of = {l2: network(multiplier=1 / 16, hidden=8, size=64, l2=l2) for l2 in (0.0, 0.005)}
    clip, truth = torch.rand(2, 16, 3, 64, 64), Truth(torch.tensor([0.0, 1.0]))
    plain, penalised = (model.loss(model(clip), truth).item() for model in output_of.values())
    kernels = [p for name, p in output_of[0.0].named_parameters() if name.endswith("weight")]
    assert len(kernels) == 11
    assert penalised - plain == pytest.approx(0.005 * sum(float((k.detach() ** 2).sum()) for k in kernels), rel=1e-4)


# --- Keras files

Arrays = list[NDArray[np.float32]]


def keras_layers(arch: str, widths: tuple[int, ...], flat: int, hidden: int) -> dict[str, Arrays]:
    random, layers, channels = np.random.default_rng(0), {}, 3
    for number, width in enumerate(widths, 1):
        kernel = random.normal(0, (2 / 27 / channels) ** 0.5, (3, 3, 3, channels, width))
        layers[f"conv3d_{number}"] = [kernel.astype(np.float32), random.normal(0, 0.1, width).astype(np.float32)]
        channels = width
    for number, (before, width) in enumerate(((flat, hidden), (hidden, hidden), (hidden, 2)), 1):
        kernel = random.normal(0, (2 / before) ** 0.5, (before, width))
        layers[f"dense_{number}"] = [kernel.astype(np.float32), random.normal(0, 0.1, width).astype(np.float32)]
    return layers


def keras_forward(clip: Tensor, layers: dict[str, Arrays], arch: str, first: tuple[int, int, int]) -> Tensor:
    """What Keras computes, clip (B, T, H, W, 3), channels last until the convolution itself."""
    ends = [0, 1, 3, 5, 7] if arch == "c3d" else [0, 1, 2, 3, 4]
    x, stage = clip, 0
    for number, (name, arrays) in enumerate(layers.items()):
        kernel, bias = (torch.from_numpy(a) for a in arrays)
        if not name.startswith("conv"):
            x = x.flatten(1) @ kernel + bias
            x = x if name == "dense_3" else x.relu()
            continue
        maps = functional.conv3d(x.permute(0, 4, 1, 2, 3), kernel.permute(4, 3, 0, 1, 2), bias, padding=1).relu()
        if number in ends:
            pool = first if stage == 0 else (2, 2, 2)
            if arch == "c3d" and stage == 4:
                maps = functional.pad(maps, (1, 1, 1, 1))
            if arch == "conv3d":  # "same", stride as large as the window: an odd side gets one position at its end
                pad = [v for side, step in zip(maps.shape[:1:-1], pool[::-1], strict=True) for v in (0, -side % step)]
                maps = functional.pad(maps, pad, value=-torch.inf)
            maps, stage = functional.max_pool3d(maps, pool), stage + 1
        x = maps.permute(0, 2, 3, 4, 1)
    return x


@pytest.mark.parametrize(("arch", "first"), [("c3d", (1, 2, 2)), ("conv3d", (2, 2, 1)), ("conv3d", (1, 2, 2))])
def test_a_keras_file_gives_what_keras_computes(arch: str, first: tuple[int, int, int], tmp_path: Path) -> None:
    widths = (64, 128, 256, 256, 512, 512, 512, 512) if arch == "c3d" else (64, 128, 128, 256, 256)
    flat = {"c3d": 8192, "conv3d": 7168 if first == (2, 2, 1) else 4096}[arch]
    layers = keras_layers(arch, widths, flat, hidden=32)
    config, state = C3D.import_checkpoint([write_keras(tmp_path / "clip.hdf5", layers)])
    assert (config.arch, config.first_pool, config.hidden) == (arch, first, 32)
    model = C3D(config)
    model.load_state_dict(state)
    clip = torch.rand(1, 16, 3, 112, 112, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = model.eval()(clip).aux["classes"]
        expected = keras_forward(clip.permute(0, 1, 3, 4, 2), layers, arch, first)
    assert torch.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


def test_other_files_are_refused(tmp_path: Path) -> None:
    layers = keras_layers("conv3d", (64, 128, 128, 256), 7168, 8)
    with pytest.raises(CheckpointError, match="has 4 3-D convolutions and 3 dense layers among 7; C3D has 8 and 3"):
        C3D.import_checkpoint([write_keras(tmp_path / "four.hdf5", layers)])
    layers = keras_layers("conv3d", (64, 128, 128, 256, 256), 999, 8)
    with pytest.raises(CheckpointError, match=r"odd\.hdf5 does not fit; wrong shape: fc6\.weight"):
        C3D.import_checkpoint([write_keras(tmp_path / "odd.hdf5", layers)])


def test_batch_norms_are_only_compacts() -> None:
    kinds = {p: any(isinstance(m, nn.BatchNorm3d) for m in create("c3d", p).modules()) for p in ("paper", "compact")}  # type: ignore[arg-type]
    assert kinds == {"paper": False, "compact": True}
