"""Xception: the published network, its five spellings in checkpoints, its crop."""

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from detectors.checkpoints import CheckpointError
from detectors.methods.xception import Xception, XceptionConfig, published_square
from detectors.registry import create

SEPARABLES = {1: (64, 128, 128), 2: (128, 256, 256), 3: (256, 728, 728), 12: (728, 728, 1024)}
"""Channels through the two separable convolutions of the blocks that halve the map; the others have three of 728."""


def published_shapes() -> dict[str, tuple[int, ...]]:
    """Every entry of the published state dict, spelled out from the paper's table."""
    shapes: dict[str, tuple[int, ...]] = {"conv1.weight": (32, 3, 3, 3), "conv2.weight": (64, 32, 3, 3)}

    def norm(name: str, channels: int) -> None:
        shapes.update({f"{name}.{part}": (channels,) for part in ("weight", "bias", "running_mean", "running_var")})
        shapes[f"{name}.num_batches_tracked"] = ()

    def separable(name: str, inputs: int, outputs: int) -> None:
        shapes[f"{name}.conv1.weight"] = (inputs, 1, 3, 3)
        shapes[f"{name}.pointwise.weight"] = (outputs, inputs, 1, 1)

    norm("bn1", 32)
    norm("bn2", 64)
    for block in range(1, 13):
        widths = SEPARABLES.get(block, (728, 728, 728, 728))
        if block in SEPARABLES:
            shapes[f"block{block}.skip.weight"] = (widths[-1], widths[0], 1, 1)
            norm(f"block{block}.skipbn", widths[-1])
        for number, (inputs, outputs) in enumerate(pairwise(widths)):
            position = 3 * number + (0 if block == 1 else 1)
            separable(f"block{block}.rep.{position}", inputs, outputs)
            norm(f"block{block}.rep.{position + 1}", outputs)
    separable("conv3", 1024, 1536)
    norm("bn3", 1536)
    separable("conv4", 1536, 2048)
    norm("bn4", 2048)
    return shapes | {"last_linear.weight": (2, 2048), "last_linear.bias": (2,)}


@cache
def published_state() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(7) if not shape else torch.rand(shape, generator=generator) * 0.1
        for key, shape in published_shapes().items()
    }


@cache
def paper() -> Xception:
    torch.manual_seed(0)
    return Xception(XceptionConfig()).eval()


def test_the_network_has_the_published_parameters_and_entries() -> None:
    assert sum(p.numel() for p in paper().parameters()) == 20_811_050
    assert len(published_shapes()) == len(paper().state_dict()) == 276
    own = {k.replace("output.", "last_linear.").removeprefix("backbone."): v for k, v in paper().state_dict().items()}
    assert {k: tuple(v.shape) for k, v in own.items()} == published_shapes()


def test_the_stages_have_the_papers_shapes() -> None:
    seen: dict[str, tuple[int, ...]] = {}
    hooks = [
        module.register_forward_hook(lambda _, __, out, name=name: seen.update({name: tuple(out.shape[1:])}))
        for name, module in paper().backbone.named_children()
    ]
    with torch.inference_mode():
        output = paper()(torch.zeros(1, 3, 299, 299))
    for hook in hooks:
        hook.remove()
    expected = {"bn1": (32, 149, 149), "bn2": (64, 147, 147), "block1": (128, 74, 74), "block2": (256, 37, 37)}
    expected |= {f"block{n}": (728, 19, 19) for n in range(3, 12)}
    expected |= {"block12": (1024, 10, 10), "bn3": (1536, 10, 10), "bn4": (2048, 10, 10)}
    assert {name: seen[name] for name in expected} == expected
    assert output.embedding.shape == (1, 2048)


def test_pixels_reach_the_network_between_minus_1_and_1_in_rgb() -> None:
    red = np.zeros((1, 299, 299, 3), np.uint8)
    red[..., 0] = 255
    assert paper().prepare(red).amax((0, 2, 3)).tolist() == [1, -1, -1]


def behind_dropout(key: str) -> str:
    return key.replace("last_linear.", "last_linear.1.")


SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "module": lambda key: f"module.{key}",
    "model": lambda key: f"model.{key}",
    "dropout": lambda key: f"module.model.{behind_dropout(key)}",
    "fc": lambda key: key.replace("last_linear.", "fc."),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_checkpoint_is_the_same_network(tmp_path: Path, spelling: str) -> None:
    path = tmp_path / "xception-c23.pth"
    torch.save({SPELLINGS[spelling](key): value for key, value in published_state().items()}, path)
    config, state = Xception.import_checkpoint([path])
    assert config == XceptionConfig()
    assert state.keys() == paper().state_dict().keys()
    assert torch.equal(
        state["backbone.block12.rep.4.pointwise.weight"], published_state()["block12.rep.4.pointwise.weight"]
    )
    assert torch.equal(state["output.weight"], published_state()["last_linear.weight"])


def test_a_published_checkpoint_gives_the_published_answer(tmp_path: Path) -> None:
    import timm

    torch.manual_seed(1)
    theirs = timm.create_model("legacy_xception", num_classes=2).eval()
    path = tmp_path / "xception.pth"
    torch.save({f"model.{k}".replace(".fc.", ".last_linear.1."): v for k, v in theirs.state_dict().items()}, path)
    config, state = Xception.import_checkpoint([path])
    model = Xception(config).eval()
    model.load_state_dict(state)
    images = torch.rand(1, 3, 299, 299) * 2 - 1
    with torch.inference_mode():
        probability = theirs(images).softmax(1)[:, 1]
        assert torch.allclose(model(images).logit.sigmoid(), probability, atol=1e-6)


def test_the_imagenet_ports_kernels_get_their_axes_and_its_classes_are_refused(tmp_path: Path) -> None:
    flat = {k: v[:, :, 0, 0] if "pointwise" in k else v for k, v in published_state().items()}
    old = {k: v for k, v in flat.items() if "num_batches_tracked" not in k}
    path = tmp_path / "xception-b5690688.pth"
    torch.save(old, path)
    _, state = Xception.import_checkpoint([path])
    assert state["backbone.conv4.pointwise.weight"].shape == (2048, 1536, 1, 1)
    del old["last_linear.weight"]
    torch.save(old | {"fc.weight": torch.zeros(1000, 2048), "fc.bias": torch.zeros(1000)}, path)
    with pytest.raises(CheckpointError, match="1000 classes apart, not real from fake"):
        Xception.import_checkpoint([path])


def test_a_half_of_a_network_and_a_pickled_one_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "half.pth"
    torch.save({k: v for k, v in published_state().items() if not k.startswith("block9")}, path)
    with pytest.raises(CheckpointError, match=r"half.pth does not fit; missing: backbone\.block9"):
        Xception.import_checkpoint([path])
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match="could run code"):
        Xception.import_checkpoint([path])


def test_the_published_square_of_a_face_at_the_border() -> None:
    assert published_square((10, 20, 110, 140), 640, 480) == (0, 2, 156)


@given(left=st.integers(0, 600), top=st.integers(0, 440), w=st.integers(1, 300), h=st.integers(1, 300))
def test_the_published_square_stays_in_the_frame(left: int, top: int, w: int, h: int) -> None:
    x1, y1, side = published_square((left, top, left + w, top + h), 640, 480)
    assert x1 >= 0 and y1 >= 0 and x1 + side <= 640 and y1 + side <= 480
    assert side <= 1.3 * max(w, h)


def test_compact_is_small() -> None:
    assert sum(p.numel() for p in create("xception").parameters()) == 1_614_146
