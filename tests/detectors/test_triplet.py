"""Triplet network: the published loss value and embeddings, and the files that make a detector of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from keras_files import write_keras
from torch import Tensor

from detectors.base import Truth
from detectors.checkpoints import CheckpointError
from detectors.methods.triplet import Triplet, TripletConfig
from detectors.methods.triplet.loss import semi_hard_triplet_loss
from detectors.methods.triplet.networks import FaceNet, TripletNetwork, facenet, read_triplet_network
from detectors.registry import create

PUBLISHED = "triplets_semi_hard_sacred_model.hdf5"


def compact(**config: Any) -> Triplet:
    torch.manual_seed(0)
    base = TripletConfig(backbone="mobilenetv1", frozen=False, size=96, widths=(16, 8))
    return Triplet(base.model_copy(update=config))


# --- the loss


def published_batch() -> tuple[Tensor, Tensor]:
    i, j = torch.meshgrid(torch.arange(8.0), torch.arange(4.0), indexing="ij")
    return 0.5 * torch.sin(1.3 * i + 0.7 * j), torch.tensor([0, 1, 0, 1, 1, 0, 0, 1])


def by_pairs(embedding: Tensor, labels: Tensor, margin: float) -> float:
    """The definition, pair by pair (section 9 of the specification)."""
    points, terms = embedding.double().numpy(), []
    distance = ((points[:, None] - points[None]) ** 2).sum(-1)
    for a in range(len(points)):
        negatives = [distance[a, n] for n in range(len(points)) if labels[n] != labels[a]]
        for p in range(len(points)):
            if p == a or labels[p] != labels[a]:
                continue
            farther = [d for d in negatives if d > distance[a, p]]
            terms.append(max(0.0, margin + distance[a, p] - (min(farther) if farther else max(negatives))))
    return float(np.mean(terms))


def test_the_loss_has_the_published_value() -> None:
    assert semi_hard_triplet_loss(*published_batch()).item() == pytest.approx(0.82177798, abs=1e-6)


def test_the_golden_file_says_the_same(shared: Path) -> None:
    golden = json.loads((shared / "golden" / "metric_learning.json").read_text())["semi_hard_loss"]
    embedding, labels = published_batch()
    assert labels.tolist() == golden["labels"]
    found = semi_hard_triplet_loss(embedding.double(), labels, golden["margin"]).item()
    assert found == pytest.approx(golden["loss_float64"], abs=1e-6)


@given(st.integers(0, 10_000), st.integers(4, 24), st.floats(0.1, 3))
def test_the_loss_is_the_mean_over_pairs(seed: int, count: int, margin: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    embedding = torch.randn(count, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 2, (count,), generator=generator)
    labels[:4] = torch.tensor([0, 0, 1, 1])
    assert semi_hard_triplet_loss(embedding, labels, margin).item() == pytest.approx(
        by_pairs(embedding, labels, margin)
    )


def test_equal_distances_are_not_farther() -> None:
    embedding = torch.tensor([[0.0], [1.0], [-1.0], [2.0]])
    labels = torch.tensor([0, 0, 1, 1])
    assert semi_hard_triplet_loss(embedding, labels).item() == pytest.approx(by_pairs(embedding, labels, 1.0))


def test_the_gradient_is_the_losss() -> None:
    embedding = torch.randn(6, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1, 0, 1, 1, 0])
    assert torch.autograd.gradcheck(lambda e: semi_hard_triplet_loss(e, labels), embedding)


@pytest.mark.parametrize("labels", [[1, 1, 1], [0, 0, 0], [0, 1, 2]], ids=["all fake", "all real", "no positive"])
def test_a_batch_without_triplets_costs_nothing(labels: list[int]) -> None:
    embedding = torch.randn(3, 4, requires_grad=True)
    loss = semi_hard_triplet_loss(embedding, torch.tensor(labels))
    loss.backward()
    assert loss.item() == 0
    assert embedding.grad is not None and not bool(embedding.grad.any())


# --- the network


def test_the_network_has_the_published_parameters() -> None:
    assert sum(p.numel() for p in TripletNetwork().parameters()) == 238_272
    assert sum(p.numel() for p in create("triplet", "compact").parameters()) == 1_687_105


@pytest.mark.parametrize("name", ["zeros", "e0", "ramp_unit", "cos_unit", "const_unit"])
def test_published_weights_give_the_published_embeddings(shared: Path, name: str) -> None:
    k = np.arange(512)
    inputs = {
        "zeros": np.zeros(512),
        "e0": np.eye(512)[0],
        "ramp_unit": (k - 255.5) / np.linalg.norm(k - 255.5),
        "cos_unit": np.cos(0.1 * (k + 1)) / np.linalg.norm(np.cos(0.1 * (k + 1))),
        "const_unit": np.full(512, 512**-0.5),
    }
    golden = json.loads((shared / "golden" / "metric_learning.json").read_text())["embeddings_float64"]
    network = TripletNetwork().eval()
    network.load_state_dict(read_triplet_network(shared / "golden" / "metric_learning" / PUBLISHED))
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-8)):
        with torch.inference_mode():
            found = network.to(dtype)(torch.from_numpy(inputs[name]).to(dtype)[None])[0]
        assert np.allclose(found, golden[name], atol=tolerance, rtol=0)


def test_the_classifier_learns_beside_the_network_not_through_it() -> None:
    model = compact().train()
    output = model(torch.rand(4, 3, 96, 96))
    output.logit.sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {"classifier.weight", "classifier.bias"}


def test_the_loss_is_both_parts() -> None:
    model = compact().eval()
    label = torch.tensor([0.0, 1, 0, 1])
    output = model(torch.rand(4, 3, 96, 96))
    assert output.embedding is not None
    parts = (
        semi_hard_triplet_loss(output.embedding, label)
        + torch.nn.functional.softplus(torch.where(label > 0, -output.logit, output.logit)).mean()
    )
    assert model.loss(output, Truth(label)).item() == pytest.approx(parts.item(), abs=1e-6)


def test_the_papers_backbone_is_frozen_and_gives_unit_vectors() -> None:
    model = create("triplet", "paper").train()
    assert isinstance(model, Triplet) and not model.backbone.training
    before = model.backbone.state_dict()["net.last_bn.running_mean"].clone()
    output = model(torch.rand(2, 3, 160, 160))
    assert torch.equal(model.backbone.state_dict()["net.last_bn.running_mean"], before)
    assert not any(p.requires_grad for p in model.backbone.parameters())
    assert torch.allclose(output.aux["face"].norm(dim=1), torch.ones(2), atol=1e-5)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 238_272 + 65


@pytest.mark.parametrize(("scale", "highest"), [("keras_facenet", 1.0), ("facenet_pytorch", 127.5 / 128)])
def test_pixels_reach_facenet_in_its_scale(scale: Any, highest: float) -> None:
    model = Triplet(TripletConfig(scale=scale))
    batch = model.prepare(np.full((1, 160, 160, 3), 255, np.uint8))
    assert batch.max().item() == pytest.approx(highest, abs=1e-6)


# --- its files


def published_files(folder: Path) -> tuple[list[Path], dict[str, Tensor]]:
    """FaceNet as facenet-pytorch publishes it (with its identity classifier), the Keras model, and a classifier."""
    torch.manual_seed(3)
    net = FaceNet().net.state_dict()
    faces = {**net, "logits.weight": torch.zeros(8631, 512), "logits.bias": torch.zeros(8631)}
    torch.save(faces, folder / "vggface2.pt")
    random = np.random.default_rng(0)
    arrays = []
    for before, width in ((512, 256), (256, 256), (256, 128), (128, 64)):
        arrays += [random.normal(0, 0.05, (before, width)), random.normal(0, 0.05, width)]
    model = {"input_image": [], "model_1": [a.astype(np.float32) for a in arrays], "concatenate_1": []}
    write_keras(folder / PUBLISHED, model, whole_model=True)
    head = {"classifier.weight": torch.randn(1, 64), "classifier.bias": torch.randn(1)}
    torch.save(head, folder / "classifier.pt")
    state = {f"backbone.net.{key}": value for key, value in net.items()} | head
    for layer, (kernel, bias) in enumerate(zip(arrays[::2], arrays[1::2], strict=True)):
        state[f"network.{3 * layer}.weight"] = torch.from_numpy(kernel.T.copy()).float()
        state[f"network.{3 * layer}.bias"] = torch.from_numpy(bias).float()
    return [folder / "vggface2.pt", folder / PUBLISHED, folder / "classifier.pt"], state


def test_three_files_make_a_detector(tmp_path: Path) -> None:
    paths, expected = published_files(tmp_path)
    config, state = Triplet.import_checkpoint(paths)
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[key], expected[key]) for key in expected)
    model = Triplet(config)
    model.load_state_dict(state)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), np.uint8)
    with torch.inference_mode():
        output = model.eval()(model.prepare(pixels))
        alone = facenet(paths[0])(model.prepare(pixels))
    assert torch.allclose(output.aux["face"], alone, atol=1e-6)


def test_without_a_classifier_there_is_no_score(tmp_path: Path) -> None:
    paths, _ = published_files(tmp_path)
    with pytest.raises(CheckpointError, match=r"a classifier .*given: FaceNet, triplet network$"):
        Triplet.import_checkpoint(paths[:2])
    with pytest.raises(CheckpointError, match="given: none"):
        Triplet.import_checkpoint([])


def test_files_of_other_networks_are_refused(tmp_path: Path) -> None:
    wide = {"conv2d": [np.zeros((3, 3, 3, 8), np.float32), np.zeros(8, np.float32)]}
    with pytest.raises(CheckpointError, match="its layers are not all dense"):
        read_triplet_network(write_keras(tmp_path / "conv.h5", wide))
    torch.save({"fc.weight": torch.zeros(2, 2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt does not fit; missing: net\.conv2d_1a"):
        facenet(tmp_path / "other.pt")
