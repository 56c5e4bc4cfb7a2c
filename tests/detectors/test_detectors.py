"""What every registered detector must do, in both profiles; a new method is held to it without a line here."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detectors import registry, store
from detectors.base import Detector, DetectorOutput
from detectors.predict import heatmaps, predict
from detectors.store import LoadedDetector
from preprocessing.inputs import ClipInput, FaceInput, InputSpec, LandmarkInput

MATRIX = [(name, profile) for name in registry.names() for profile in ("paper", "compact")]
pytestmark = pytest.mark.parametrize(("name", "profile"), MATRIX)


def samples(spec: InputSpec, count: int, seed: int = 0) -> NDArray[Any]:
    """Random samples of a declared input: smooth pictures, wandering landmarks."""
    random = np.random.default_rng(seed)
    if isinstance(spec, LandmarkInput):
        still = random.normal(0, 0.3, (count, 1, 136))
        return (still + random.normal(0, 0.01, (count, spec.length, 136))).astype(np.float32)
    face = spec.face if isinstance(spec, ClipInput) else spec
    shape = (count, spec.length) if isinstance(spec, ClipInput) else (count,)
    coarse = random.integers(0, 256, (*shape, face.size // 8, face.size // 8, 3), dtype=np.uint8)
    return coarse.repeat(8, -3).repeat(8, -2)


def untrained(name: str, profile: Any) -> Detector:
    torch.manual_seed(0)
    return registry.create(name, profile)


def as_loaded(detector: Detector, profile: str, folder: Path, half: bool = False) -> LoadedDetector:
    store.save(
        detector,
        folder,
        half=half,
        profile=profile,
        name="one",
        licence="Apache-2.0",
        data="none",
        command="pytest",
        date="2026-01-01",
    )
    return store.load(detector.name, profile, folder)  # type: ignore[arg-type]


def check_shapes(output: DetectorOutput, count: int) -> None:
    assert output.logit.shape == (count,)
    assert bool(torch.isfinite(output.logit).all())
    for value, dimensions in ((output.heatmap, 3), (output.embedding, 2), (output.frame_logit, 2)):
        assert value is None or (value.ndim == dimensions and len(value) == count)
    if output.heatmap is not None:
        assert float(output.heatmap.min()) >= 0 and float(output.heatmap.max()) <= 1


def test_it_says_where_it_comes_from_and_what_it_takes(name: str, profile: Any) -> None:
    detector = untrained(name, profile)
    assert detector.name == name
    assert isinstance(detector.input, FaceInput | ClipInput | LandmarkInput)
    meta = detector.meta
    assert meta.title and meta.paper and meta.looks_at.endswith(".") and meta.url.startswith("https://")
    assert 2015 <= meta.year <= 2027
    assert type(detector.config).model_validate(detector.config.model_dump(mode="json")) == detector.config


@pytest.mark.parametrize("count", [1, 3])
def test_it_answers_a_batch_and_a_single_sample(name: str, profile: Any, count: int) -> None:
    detector = untrained(name, profile).eval()
    with torch.inference_mode():
        check_shapes(detector(detector.prepare(samples(detector.input, count))), count)


def test_it_refuses_samples_of_another_shape(name: str, profile: Any) -> None:
    detector = untrained(name, profile)
    with pytest.raises(ValueError, match=name):
        detector.prepare(samples(detector.input, 2)[:, :-1])


def test_it_learns(name: str, profile: Any) -> None:
    detector = untrained(name, profile).train()
    batch = detector.prepare(samples(detector.input, 4))
    loss = detector.loss(detector(batch), torch.tensor([0.0, 1.0, 0.0, 1.0]))
    assert loss.ndim == 0 and bool(torch.isfinite(loss))
    loss.backward()
    trained = [(key, p.grad) for key, p in detector.named_parameters() if p.requires_grad]
    assert trained
    without = [key for key, grad in trained if grad is None or not bool(torch.isfinite(grad).all())]
    assert not without
    assert sum(float(grad.abs().sum()) for _, grad in trained if grad is not None) > 0


def test_the_loss_falls_when_the_answer_gets_better(name: str, profile: Any) -> None:
    detector = untrained(name, profile).eval()
    with torch.no_grad():
        output = detector(detector.prepare(samples(detector.input, 4)))
        right = (output.logit > output.logit.median()).float()
        assert detector.loss(output, right) < detector.loss(output, 1 - right)


def test_evaluation_is_deterministic(name: str, profile: Any) -> None:
    detector = untrained(name, profile).eval()
    batch = detector.prepare(samples(detector.input, 2))
    with torch.inference_mode():
        assert torch.equal(detector(batch).logit, detector(batch).logit)


def test_saved_and_loaded_it_gives_the_same_scores(name: str, profile: Any, tmp_path: Path) -> None:
    detector = untrained(name, profile).eval()
    given = samples(detector.input, 3)
    loaded = as_loaded(detector, profile, tmp_path)
    with torch.inference_mode():
        expected = detector(detector.prepare(given)).logit
    assert np.array_equal(predict(loaded, given).logits, expected.numpy())
    stored = as_loaded(detector, profile, tmp_path, half=True)
    assert np.allclose(predict(stored, given).logits, expected, atol=0.02)


def test_the_batch_size_does_not_change_a_score(name: str, profile: Any, tmp_path: Path) -> None:
    loaded = as_loaded(untrained(name, profile), profile, tmp_path)
    given = samples(loaded.detector.input, 7)
    one, many = predict(loaded, given, batch_size=1), predict(loaded, given, batch_size=32)
    assert one.logits.dtype == np.float32
    assert np.allclose(one.logits, many.logits, atol=1e-5, rtol=0)
    if one.embeddings is not None and many.embeddings is not None:
        assert np.allclose(one.embeddings, many.embeddings, atol=1e-4)


def test_no_samples_give_no_scores(name: str, profile: Any, tmp_path: Path) -> None:
    loaded = as_loaded(untrained(name, profile), profile, tmp_path)
    none = samples(loaded.detector.input, 1)[:0]
    assert predict(loaded, none).logits.shape == (0,)
    assert heatmaps(loaded, none) is None


def test_heatmaps_are_between_0_and_1_in_crop_coordinates(name: str, profile: Any, tmp_path: Path) -> None:
    loaded = as_loaded(untrained(name, profile), profile, tmp_path)
    spec = loaded.detector.input
    found = heatmaps(loaded, samples(spec, 2))
    if isinstance(spec, LandmarkInput):
        assert found is None
    elif found is not None:
        size = spec.face.size if isinstance(spec, ClipInput) else spec.size
        assert found.shape == (2, size, size) and found.dtype == np.float32
        assert found.min() >= 0 and found.max() <= 1


def test_a_network_that_lost_its_mind_gives_no_score(name: str, profile: Any, tmp_path: Path) -> None:
    loaded = as_loaded(untrained(name, profile), profile, tmp_path)
    with torch.no_grad():
        for parameter in loaded.detector.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not a number"):
        predict(loaded, samples(loaded.detector.input, 1))


def test_a_track_is_one_number(name: str, profile: Any) -> None:
    combine = registry.entry(name).cls.track_logit
    logits = np.array([-2.0, 1.0, 3.0], np.float32)
    assert logits.min() <= combine(logits) <= logits.max()
    assert combine(logits[:1]) == pytest.approx(-2.0, abs=1e-5)
    assert isinstance(combine(logits), float)
