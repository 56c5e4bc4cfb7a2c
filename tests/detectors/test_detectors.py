"""What every registered detector must do; a new method is held to it without a line here.

The compact profile goes through every action. The paper's profile is built, says where it comes from and answers once:
its parameters and keys stand in the method's own tests.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detectors import registry, store
from detectors.base import Detector, DetectorOutput, Profile, Truth
from detectors.checkpoints import CheckpointError
from detectors.explain import explain
from detectors.importers import import_weights
from detectors.predict import predict
from detectors.store import Calibration, LoadedDetector
from preprocessing.inputs import ClipInput, FaceInput, InputSpec, LandmarkInput

NAMES = registry.names()
LARGE = {"gend"}
"""Networks of hundreds of millions of parameters: the paper's profile is among the slow tests."""
PAPER = [pytest.param(name, marks=[pytest.mark.slow] if name in LARGE else []) for name in NAMES]
LONG = {"c3d", "cnn_recurrent"}
"""Eight clips of whole faces, forward and backward, take a minute: learning by heart is among the slow tests."""
BY_HEART = [pytest.param(name, marks=[pytest.mark.slow] if name in LONG else []) for name in NAMES]
STEPS = 80
every_detector = pytest.mark.parametrize("name", NAMES)


def samples(spec: InputSpec, count: int, seed: int = 0) -> NDArray[Any]:
    """Random samples of a declared input: smooth pictures, wandering landmarks."""
    random = np.random.default_rng(seed)
    if isinstance(spec, LandmarkInput):
        still = random.normal(0, 0.3, (count, 1, 136))
        return (still + random.normal(0, 0.01, (count, spec.length, 136))).astype(np.float32)
    face = spec.face if isinstance(spec, ClipInput) else spec
    shape = (count, spec.length) if isinstance(spec, ClipInput) else (count,)
    cells = -(-face.size // 8)
    coarse = random.integers(0, 256, (*shape, cells, cells, 3), dtype=np.uint8)
    return np.ascontiguousarray(coarse.repeat(8, -3).repeat(8, -2)[..., : face.size, : face.size, :])


def truth(detector: Detector, count: int) -> Truth:
    """Every second sample is a fake whose middle was blended in, with all that a loss may ask for."""
    spec = detector.input
    label = torch.arange(count) % 2
    if isinstance(spec, LandmarkInput):
        return Truth(label.float())
    size = spec.face.size if isinstance(spec, ClipInput) else spec.size
    row, column = np.mgrid[:size, :size] / size - 0.5
    disc = np.clip(3 - 8 * np.hypot(row, column), 0, 1).astype(np.float32)
    if isinstance(spec, ClipInput):
        disc = np.repeat(disc[None], spec.length, 0)
    made = [detector.targets(disc * fake) for fake in label.numpy().astype(np.float32)]
    maps = {key: torch.from_numpy(np.stack([one[key] for one in made])) for key in made[0]}
    frames = label[:, None].repeat(1, spec.length).float() if isinstance(spec, ClipInput) else None
    return Truth(label.float(), frames, torch.arange(count) // 2, maps)


def untrained(name: str, profile: Profile = "compact") -> Detector:
    torch.manual_seed(0)
    return registry.create(name, profile)


def as_loaded(detector: Detector, folder: Path, half: bool = False) -> LoadedDetector:
    store.save(
        detector,
        folder,
        half=half,
        profile="compact",
        name="one",
        licence="Apache-2.0",
        data="none",
        command="pytest",
        date="2026-01-01",
    )
    return store.load(detector.name, "compact", folder)


def check_shapes(detector: Detector, output: DetectorOutput, count: int) -> None:
    assert output.logit.shape == (count,)
    assert bool(torch.isfinite(output.logit).all())
    for value, dimensions in ((output.heatmap, 3), (output.embedding, 2), (output.frame_logit, 2)):
        assert value is None or (value.ndim == dimensions and len(value) == count)
    assert (output.heatmap is not None) == detector.native_map
    if output.heatmap is not None:
        assert float(output.heatmap.min()) >= 0 and float(output.heatmap.max()) <= 1


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_network_answers(name: str) -> None:
    detector = untrained(name, "paper").eval()
    with torch.inference_mode():
        check_shapes(detector, detector(detector.prepare(samples(detector.input, 1))), 1)


@every_detector
def test_it_says_where_it_comes_from_and_what_it_takes(name: str) -> None:
    detector = untrained(name)
    assert detector.name == name
    assert isinstance(detector.input, FaceInput | ClipInput | LandmarkInput)
    meta = detector.meta
    assert meta.title and meta.paper and meta.licence
    assert meta.looks_at.endswith(".") and meta.url.startswith("https://")
    assert 2015 <= meta.year <= 2027
    for config in registry.entry(name).profiles.values():
        assert type(config).model_validate(config.model_dump(mode="json")) == config


@every_detector
def test_compact_weights_are_small_enough_to_ship(name: str) -> None:
    assert sum(p.numel() for p in untrained(name).parameters()) <= 1_800_000


@every_detector
@pytest.mark.parametrize("count", [1, 3])
def test_it_answers_a_batch_and_a_single_sample(name: str, count: int) -> None:
    detector = untrained(name).eval()
    with torch.inference_mode():
        check_shapes(detector, detector(detector.prepare(samples(detector.input, count))), count)


@every_detector
def test_it_refuses_samples_of_another_shape(name: str) -> None:
    detector = untrained(name)
    with pytest.raises(ValueError, match=name):
        detector.prepare(samples(detector.input, 2)[:, :-1])


@every_detector
def test_every_trained_parameter_gets_a_gradient(name: str) -> None:
    detector = untrained(name).train()
    loss = detector.loss(detector(detector.prepare(samples(detector.input, 4))), truth(detector, 4))
    assert loss.ndim == 0 and bool(torch.isfinite(loss))
    loss.backward()
    trained = [(key, p.grad) for key, p in detector.named_parameters() if p.requires_grad]
    assert trained
    without = [key for key, grad in trained if grad is None or not bool(torch.isfinite(grad).all())]
    assert not without
    assert sum(float(grad.abs().sum()) for _, grad in trained if grad is not None) > 0


@pytest.mark.parametrize("name", BY_HEART)
def test_its_loss_falls_on_eight_samples_that_it_may_learn_by_heart(name: str) -> None:
    detector = untrained(name).train()
    batch, labels = detector.prepare(samples(detector.input, 8)), truth(detector, 8)
    trained = [p for p in detector.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(trained, 1e-3)
    losses: list[float] = []
    while len(losses) < STEPS and (len(losses) < 5 or np.mean(losses[-3:]) > 0.7 * np.mean(losses[:2])):
        loss = detector.loss(detector(batch), labels)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 5.0)
        optimiser.step()
        losses.append(loss.item())
    assert np.mean(losses[-3:]) <= 0.7 * np.mean(losses[:2]), losses


@every_detector
def test_without_masks_it_still_has_a_loss(name: str) -> None:
    detector = untrained(name).train()
    output = detector(detector.prepare(samples(detector.input, 2)))
    assert bool(torch.isfinite(detector.loss(output, Truth(torch.tensor([0.0, 1.0])))))


@every_detector
def test_the_loss_falls_when_the_answer_gets_better(name: str) -> None:
    detector = untrained(name).eval()
    with torch.no_grad():
        # An untrained network's frames need not agree with its clip.
        output = replace(detector(detector.prepare(samples(detector.input, 4))), frame_logit=None)
        right = (output.logit > output.logit.median()).float()
        assert detector.loss(output, Truth(right)) < detector.loss(output, Truth(1 - right))


@every_detector
def test_evaluation_is_deterministic(name: str) -> None:
    detector = untrained(name).eval()
    batch = detector.prepare(samples(detector.input, 2))
    with torch.inference_mode():
        assert torch.equal(detector(batch).logit, detector(batch).logit)


@every_detector
def test_saved_and_loaded_it_gives_the_same_scores(name: str, tmp_path: Path) -> None:
    detector = untrained(name).eval()
    given = samples(detector.input, 3)
    loaded = as_loaded(detector, tmp_path)
    with torch.inference_mode():
        expected = torch.cat([detector(detector.prepare(one[None])).logit for one in given])
    assert np.allclose(predict(loaded, given, batch_size=1).logits, expected.numpy(), atol=1e-6, rtol=0)
    stored = as_loaded(detector, tmp_path, half=True)
    assert np.allclose(predict(stored, given).logits, expected, atol=0.02, rtol=0.02)


@every_detector
def test_a_batch_of_one_gives_what_a_batch_of_eight_gives(name: str, tmp_path: Path) -> None:
    loaded = as_loaded(untrained(name), tmp_path)
    given = samples(loaded.detector.input, 8)
    one, many = predict(loaded, given, batch_size=1), predict(loaded, given, batch_size=8)
    assert one.logits.dtype == np.float32
    assert np.allclose(one.logits, many.logits, atol=2e-5, rtol=0)
    if one.embeddings is not None and many.embeddings is not None:
        assert np.allclose(one.embeddings, many.embeddings, atol=1e-4)


@every_detector
def test_calibrated_it_says_another_score_of_the_same_logit(name: str, tmp_path: Path) -> None:
    plain = as_loaded(untrained(name), tmp_path)
    assert plain.score(np.array([0.0])) == pytest.approx(0.5)
    manifest = store.read_manifest(tmp_path)[0]
    calibrated = LoadedDetector(
        plain.detector,
        manifest.model_copy(update={"calibration": Calibration(a=2.0, b=-1.0, fitted_on="none", n=1)}),
    )
    assert calibrated.score(np.array([0.5])) == pytest.approx(0.5)
    assert calibrated.score(np.array([0.0, 1.0])) == pytest.approx([0.26894142, 0.73105858])


@every_detector
def test_no_samples_give_no_scores(name: str, tmp_path: Path) -> None:
    loaded = as_loaded(untrained(name), tmp_path)
    none = samples(loaded.detector.input, 1)[:0]
    assert predict(loaded, none).logits.shape == (0,)


@every_detector
def test_it_shows_where_it_looks_in_crop_coordinates(name: str, tmp_path: Path) -> None:
    loaded = as_loaded(untrained(name), tmp_path)
    spec = loaded.detector.input
    found = explain(loaded, samples(spec, 2))
    assert found.kind == ("landmarks" if isinstance(spec, LandmarkInput) else found.kind)
    assert (found.kind == "native") == loaded.detector.native_map
    if not isinstance(spec, LandmarkInput):
        size = spec.face.size if isinstance(spec, ClipInput) else spec.size
        assert found.maps.shape == (2, size, size)
    assert found.maps.dtype == np.float32 and found.maps.min() >= 0 and found.maps.max() <= 1


@every_detector
def test_a_network_that_lost_its_mind_gives_no_score(name: str, tmp_path: Path) -> None:
    loaded = as_loaded(untrained(name), tmp_path)
    with torch.no_grad():
        for parameter in loaded.detector.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="not a number"):
        predict(loaded, samples(loaded.detector.input, 1))


@every_detector
def test_a_track_is_one_number(name: str) -> None:
    combine = registry.entry(name).cls.track_logit
    logits = np.array([-2.0, 1.0, 3.0], np.float32)
    assert logits.min() <= combine(logits) <= logits.max()
    assert combine(logits[:1]) == pytest.approx(-2.0, abs=1e-5)
    assert isinstance(combine(logits), float)


@every_detector
def test_another_networks_checkpoint_is_refused_by_name(name: str, tmp_path: Path) -> None:
    torch.save({"encoder.weight": torch.zeros(3, 3)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError):
        import_weights(name, [tmp_path / "other.pth"], store=tmp_path / "store")
    assert not (tmp_path / "store").exists()


@every_detector
def test_exported_to_onnx_it_gives_the_same_scores(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra 'onnx' is not installed")
    from detectors.onnx_export import run_onnx, to_onnx

    loaded = as_loaded(untrained(name), tmp_path)
    given = samples(loaded.detector.input, 3)
    exported = to_onnx(loaded, tmp_path / "network.onnx")
    found = run_onnx(exported, loaded.detector.prepare(given).numpy())
    assert np.allclose(found["logit"], predict(loaded, given).logits, atol=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@every_detector
def test_compiled_it_gives_the_same_scores(name: str) -> None:
    detector = untrained(name).eval()
    batch = detector.prepare(samples(detector.input, 2))
    torch.compiler.reset()
    with torch.inference_mode():
        expected = detector(batch).logit
        found = torch.compile(lambda given: detector(given).logit)(batch)
    assert torch.allclose(found, expected, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@every_detector
def test_a_gpu_gives_the_cpus_scores(name: str) -> None:
    detector = untrained(name).eval()
    batch = detector.prepare(samples(detector.input, 2))
    with torch.inference_mode():
        expected = detector(batch).logit
        detector, batch = detector.cuda(), batch.cuda()
        assert torch.allclose(detector(batch).logit.cpu(), expected, atol=1e-4)
        with torch.autocast("cuda", torch.bfloat16):
            half = detector(batch).logit.float().cpu()
    assert torch.allclose(torch.sigmoid(half), torch.sigmoid(expected), atol=1e-2)
