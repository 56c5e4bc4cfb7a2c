"""A teacher: its embedding is followed while the network learns, and at no other time."""

from pathlib import Path

import pytest
import torch

from detectors.base import Detector, Truth
from detectors.methods.c3d import C3D, C3DConfig
from detectors.registry import create
from detectors.store import load, save
from train.recipe import Recipe, RecipeError
from train.step import NetworkAndLoss
from train.teacher import Teacher, settled


def pupil(**config: object) -> C3D:
    torch.manual_seed(0)
    small = {"multiplier": 1 / 16, "hidden": 128, "size": 64, "length": 1, "batch_norm": True, "dropout": 0.0}
    return C3D(C3DConfig.model_validate(small | config))


@pytest.fixture(scope="module")
def classifier() -> Detector:
    torch.manual_seed(1)
    return create("frame_cnn", "compact").eval()


def test_a_network_that_is_its_teacher_is_at_no_distance(classifier: Detector) -> None:
    teacher = Teacher(classifier, classifier, 2.0)
    pictures = torch.rand(3, 3, 160, 160) * 2 - 1
    with torch.inference_mode():
        assert float(teacher(pictures, classifier(pictures))) == pytest.approx(0, abs=1e-9)
        other = classifier(pictures.flip(0))
        apart = float(teacher(pictures, other))
        assert apart > 0
        assert float(Teacher(classifier, classifier, 1.0)(pictures, other)) == pytest.approx(apart / 2)


def test_it_sees_the_pixels_that_the_network_sees(classifier: Detector) -> None:
    """Whatever each makes of them: 0..1 and 64 px here, -1..1 and 160 px there."""
    teacher, pixels = Teacher(classifier, pupil(), 1.0), torch.full((1, 64, 64, 3), 51, dtype=torch.uint8)
    with torch.inference_mode():
        own = classifier(classifier.prepare(torch.full((1, 160, 160, 3), 51, dtype=torch.uint8))).embedding
        torch.testing.assert_close(teacher.embedding(pupil().prepare(pixels)), own, atol=1e-4, rtol=1e-4)


def test_of_a_clip_it_is_the_mean_over_frames(classifier: Detector) -> None:
    stills, clips = Teacher(classifier, pupil(), 1.0), Teacher(classifier, pupil(length=16), 1.0)
    pictures = torch.rand(2, 16, 3, 64, 64)
    with torch.inference_mode():
        each = torch.stack([stills.embedding(pictures[:, frame]) for frame in (0, 4, 8, 12)]).mean(0)
        torch.testing.assert_close(clips.embedding(pictures), each)


def test_the_loss_has_it_in_training_alone(classifier: Detector) -> None:
    network, truth = pupil(), Truth(torch.tensor([0.0, 1.0]))
    pictures = torch.rand(2, 3, 64, 64)
    plain = NetworkAndLoss(network, "cpu", half=False)
    taught = NetworkAndLoss(network, "cpu", half=False, teacher=Teacher(classifier, network, 1.0))
    network.train()
    assert taught(pictures, truth)[1].item() > plain(pictures, truth)[1].item()
    network.eval()
    assert taught(pictures, truth)[1].item() == plain(pictures, truth)[1].item()


def test_a_taught_network_comes_nearer(classifier: Detector) -> None:
    network = pupil()
    learning = NetworkAndLoss(network, "cpu", half=False, teacher=Teacher(classifier, network, 1.0))
    moves = torch.optim.Adam(network.parameters(), 1e-3)
    pictures, truth = torch.rand(8, 3, 64, 64), Truth(torch.tensor([0.0, 1.0]).repeat(4))
    losses = []
    for _ in range(20):
        moves.zero_grad()
        loss = learning(pictures, truth)[1]
        loss.backward()
        moves.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]
    assert not any(p.grad is not None for p in classifier.parameters())


def recipe(detector: str, **teacher: object) -> Recipe:
    return Recipe.model_validate(
        {"name": "r", "detector": "c3d", "data": {"kind": "images"}, "epochs": 1, "batch": 1,
         "teacher": {"detector": detector, **teacher}}
    )  # fmt: skip


def test_a_recipe_names_its_teacher(classifier: Detector, tmp_path: Path) -> None:
    save(classifier, tmp_path, profile="compact", name="frame_cnn-compact", licence="", data="", command="", date="")
    taught = Teacher.of(recipe("frame_cnn", weights=str(tmp_path), weight=0.5), pupil(), "cpu")
    assert taught is not None and taught._weight == 0.5
    assert Teacher.of(recipe("frame_cnn").model_copy(update={"teacher": None}), pupil(), "cpu") is None


@pytest.mark.parametrize(
    ("detector", "why"),
    [("frame_cmm", "frame_cnn"), ("lrnet", "single"), ("mesonet", "margin 1.3")],
)
def test_a_teacher_that_cannot_teach_is_refused_by_name(detector: str, why: str) -> None:
    with pytest.raises(RecipeError, match=f"recipe r, teacher {detector}: .*({why})"):
        Teacher.of(recipe(detector), pupil(), "cpu")


def test_embeddings_of_two_sizes_are_told() -> None:
    with pytest.raises(RecipeError, match=r"recipe r, teacher frame_cnn: .*32 values, its teacher one of 128: change"):
        settled(recipe("frame_cnn"), pupil(hidden=32))


def test_a_run_keeps_to_the_teacher_it_began_with(classifier: Detector, tmp_path: Path) -> None:
    network = pupil().train()
    begun = settled(recipe("frame_cnn"), network)
    assert begun.teacher is not None and begun.teacher.sha256 == load("frame_cnn").card.sha256 and network.training
    assert settled(begun, network) == begun
    card = {"licence": "", "data": "", "command": "", "date": ""}
    save(classifier, tmp_path, profile="compact", name="frame_cnn-compact", **card)
    another = begun.teacher.model_copy(update={"weights": str(tmp_path)})
    with pytest.raises(RecipeError, match=f"the run began with {begun.teacher.sha256[:12]}"):
        Teacher.of(begun.model_copy(update={"teacher": another}), network, "cpu")
