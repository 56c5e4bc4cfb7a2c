"""Capsule-Forensics v2: the routing's published numbers, the key layout, its loss."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.base import DetectorOutput, Truth
from detectors.checkpoints import CheckpointError
from detectors.methods.capsule import Capsule, CapsuleConfig, Routing, Statistics, squash
from detectors.registry import create

LAYERS = {0: (64, 256, 3, 3), 3: (16, 64, 3, 3), 7: (8, 2, 5), 9: (1, 8, 3)}
"""Convolutions of a primary capsule by their position; each is followed by its batch norm."""


def published_shapes(classes: int) -> dict[str, tuple[int, ...]]:
    """Every entry of a published capsule_N.pt."""
    shapes: dict[str, tuple[int, ...]] = {}
    for capsule in range(10):
        for position, kernel in LAYERS.items():
            name = f"fea_ext.capsules.{capsule}"
            shapes |= {f"{name}.{position}.weight": kernel, f"{name}.{position}.bias": kernel[:1]}
            for part in ("weight", "bias", "running_mean", "running_var"):
                shapes[f"{name}.{position + 1}.{part}"] = kernel[:1]
            shapes[f"{name}.{position + 1}.num_batches_tracked"] = ()
    return shapes | {"routing_stats.route_weights": (classes, 10, 4, 8)}


@cache
def published_state(classes: int = 2) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        key: torch.tensor(7) if not shape else torch.rand(shape, generator=generator) * 0.2
        for key, shape in published_shapes(classes).items()
    }


@cache
def vgg_layers() -> nn.Sequential:
    """VGG-19 up to the third pooling, written out."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    channels = 3
    for width, convolutions in ((64, 2), (128, 2), (256, 4)):
        for _ in range(convolutions):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def files(folder: Path, classes: int = 2) -> list[Path]:
    """A published checkpoint, and torchvision's file of VGG-19 with some of what else it holds."""
    capsule, vgg = folder / "capsule_21.pt", folder / "vgg19-dcbb9e9d.pth"
    torch.save(published_state(classes), capsule)
    imagenet = {f"features.{key}": value for key, value in vgg_layers().state_dict().items()}
    torch.save(imagenet | {"features.19.weight": torch.zeros(512), "classifier.6.bias": torch.zeros(1000)}, vgg)
    return [capsule, vgg]


def imported(folder: Path, classes: int = 2) -> Capsule:
    config, state = Capsule.import_checkpoint(files(folder, classes))
    model = Capsule(config).eval()
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_routing_gives_the_published_numbers(dtype: torch.dtype) -> None:
    routing = Routing(2, 3, 2, 2, noise=0.01, dropout=0.05).to(dtype).eval()
    weights = [
        [[[1, 0], [0, 1]], [[0.5, -0.5], [0.25, 0.75]], [[-1, 0.5], [0.5, 1]]],
        [[[0, 1], [1, 0]], [[0.2, 0.4], [-0.6, 0.8]], [[1, 1], [-1, 1]]],
    ]
    with torch.no_grad():
        routing.weights.copy_(torch.tensor(weights))
    inputs = torch.tensor([[[1, 0.5, -0.2], [0.3, -1, 0.8]], [[0.1, 0.2, 0.3], [0.4, 0.5, 0.6]]], dtype=dtype)
    with torch.inference_mode():
        z = routing(inputs)
    expected = torch.tensor(
        [
            [[0.38791534, 0.07733871], [0.07017201, 0.14456576]],
            [[-0.00693218, 0.22993957], [0.21972031, 0.09850727]],
        ],
        dtype=dtype,
    )
    assert torch.allclose(z, expected, atol=1e-7, rtol=0)
    scores = torch.tensor([[0.52921807, 0.47078193], [0.48566181, 0.51433819]], dtype=dtype)
    assert torch.allclose(z.softmax(2).mean(1), scores, atol=1e-7, rtol=0)
    loss = sum(functional.cross_entropy(z[:, k], torch.tensor([0, 1])).item() for k in range(2))
    assert loss == pytest.approx(1.30910065, abs=1e-6 if dtype == torch.float32 else 1e-7)


def test_the_capsules_have_the_published_parameters_and_entries() -> None:
    model = Capsule(CapsuleConfig())
    own = {k: tuple(v.shape) for k, v in model.state_dict().items() if not k.startswith("backbone.")}
    published = published_shapes(2)
    assert len(own) == len(published) == 281
    assert own == {
        k.replace("fea_ext.", "").replace("routing_stats.route_weights", "routing.weights"): shape
        for k, shape in published.items()
    }
    learned = [p for k, p in model.named_parameters() if not k.startswith("backbone.")]
    assert sum(p.numel() for p in learned) == 1_571_070
    assert sum(p.numel() for p in model.backbone.parameters()) == 2_325_568
    assert [p for p in model.parameters() if p.requires_grad] == learned


@pytest.mark.parametrize("classes", [2, 4])
def test_a_published_checkpoint_gives_the_published_answer(tmp_path: Path, classes: int) -> None:
    model = imported(tmp_path, classes)
    assert model.config.classes == classes
    images = torch.randn(1, 3, 300, 300, generator=torch.Generator().manual_seed(1))
    state = published_state(classes)

    def layer(capsule: int, position: int, x: Tensor) -> Tensor:
        name = f"fea_ext.capsules.{capsule}.{position}"
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        padding = weight.shape[-1] // 2
        if weight.ndim == 3:
            x = functional.conv1d(x, weight, bias, stride=2 if position == 7 else 1, padding=padding)
        else:
            x = functional.conv2d(x, weight, bias, padding=padding)
        norm = f"fea_ext.capsules.{capsule}.{position + 1}"
        mean, var, gain, shift = (state[f"{norm}.{p}"] for p in ("running_mean", "running_var", "weight", "bias"))
        return functional.batch_norm(x, mean, var, gain, shift)

    with torch.inference_mode():
        features = vgg_layers()(images)
        assert features.shape == (1, 256, 37, 37)
        values = []
        for k in range(10):
            x = layer(k, 3, layer(k, 0, features).relu()).relu()
            x = torch.stack([x.mean((2, 3)), x.var((2, 3), unbiased=True).sqrt()], 1)
            values.append(layer(k, 9, layer(k, 7, x))[:, 0])
        u = torch.stack(values, 2)
        square = (u**2).sum(2, keepdim=True)
        u = square / (1 + square) * u / square.sqrt()
        priors = (state["routing_stats.route_weights"][None] @ u.transpose(1, 2)[:, None, :, :, None])[..., 0]
        logits = torch.zeros_like(priors)
        for iteration in range(2):
            s = (logits.softmax(2) * priors).sum(2, keepdim=True)
            length = (s**2).sum(3, keepdim=True)
            outputs = length / (1 + length) * s / length.sqrt()
            if iteration == 0:
                logits = logits + priors * outputs
        z = outputs[:, :, 0].transpose(1, 2)
        score = z.softmax(2).mean(1)
        output = model(images)
    assert torch.allclose(output.aux["classes"], z, atol=1e-5)
    assert torch.allclose(output.logit.sigmoid(), 1 - score[:, 0], atol=1e-5)


def test_the_capsules_alone_are_not_enough(tmp_path: Path) -> None:
    capsule, vgg = files(tmp_path)
    for given in ([capsule], [vgg], [capsule, capsule]):
        with pytest.raises(CheckpointError, match=r"two files: the authors' capsule_N\.pt.*VGG-19 ImageNet weights"):
            Capsule.import_checkpoint(given)


def test_half_a_checkpoint_is_refused(tmp_path: Path) -> None:
    capsule, vgg = files(tmp_path)
    torch.save({k: v for k, v in published_state().items() if ".capsules.9." not in k}, capsule)
    with pytest.raises(CheckpointError, match=r"capsule_21.pt does not fit; missing: capsules\.9\.0\.weight"):
        Capsule.import_checkpoint([vgg, capsule])
    torch.save(published_state(), capsule)
    torch.save({"features.0.weight": torch.zeros(64, 3, 3, 3)}, vgg)
    with pytest.raises(CheckpointError, match=r"vgg19-dcbb9e9d.pth does not fit; missing: backbone\.0\.bias"):
        Capsule.import_checkpoint([vgg, capsule])


def test_the_loss_is_the_sum_of_the_components_cross_entropies() -> None:
    z = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0))
    label = torch.tensor([0, 1, 1])
    expected = sum(functional.cross_entropy(z[:, k], label).item() for k in range(4))
    model = create("capsule", "compact")
    loss = model.loss(DetectorOutput(torch.zeros(3), aux={"classes": z}), Truth(label.float()))
    assert loss.item() == pytest.approx(expected, rel=1e-6)


def test_with_four_classes_fake_is_all_that_is_not_real() -> None:
    z = torch.randn(2, 4, 4, generator=torch.Generator().manual_seed(0))
    model = create("capsule", config=CapsuleConfig(features="mobilenetv1", classes=4, size=64))
    loss = model.loss(DetectorOutput(torch.zeros(2), aux={"classes": z}), Truth(torch.tensor([0.0, 1.0])))
    real = z.softmax(2)[:, :, 0]
    assert loss.item() == pytest.approx(-(real[0].log().mean() + (1 - real[1]).log().mean()).item() * 2, rel=1e-5)


def test_squashing_shortens_to_below_one_and_leaves_zero_alone() -> None:
    values = torch.tensor([[3.0, 4.0], [0.0, 0.0]], requires_grad=True)
    short = squash(values, 1)
    assert torch.allclose(short[0], torch.tensor([0.6, 0.8]) * 25 / 26)
    assert short[1].tolist() == [0, 0]
    (gradient,) = torch.autograd.grad(short.sum(), values)
    assert bool(torch.isfinite(gradient).all())


def test_the_statistics_are_mean_and_unbiased_deviation() -> None:
    maps = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert torch.allclose(Statistics()(maps), torch.tensor([[[3.0], [(14 / 3) ** 0.5]]]))


def test_only_training_is_random() -> None:
    torch.manual_seed(0)
    routing = Routing(2, 10, 4, 8, noise=0.01, dropout=0.05)
    inputs = torch.randn(1, 8, 10)
    assert not torch.equal(routing.train()(inputs), routing(inputs))
    assert torch.equal(routing.eval()(inputs), routing(inputs))
    calm = Routing(2, 10, 4, 8, noise=0, dropout=0)
    assert torch.equal(calm.train()(inputs), calm.eval()(inputs))


def test_a_track_is_the_mean_probability() -> None:
    probabilities = np.array([0.2, 0.9, 0.4])
    logits = np.log(probabilities / (1 - probabilities)).astype(np.float32)
    assert Capsule.track_logit(logits) == pytest.approx(0.0, abs=1e-6)


def test_compact_is_small_and_learns_its_features() -> None:
    model = create("capsule", "compact")
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 1_571_070 + 134_208
