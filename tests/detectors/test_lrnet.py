"""LRNet: both architectures, the clips, the losses, and the published weights give the published outputs."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from detectors.base import Truth
from detectors.methods.lrnet import KerasStream, LandmarkDropout, LRNet, LRNetConfig, TorchStream, clips, vote_share


def landmark_rows(count: int, seed: int = 0) -> NDArray[np.float32]:
    return np.round(np.random.default_rng(seed).normal(0, 0.3, (count, 136)), 3).astype(np.float32)


def network(arch: str = "torch", length: int = 30) -> LRNet:
    torch.manual_seed(0)
    return LRNet(LRNetConfig.model_validate({"arch": arch, "length": length})).eval()


@pytest.mark.parametrize(("stream", "count"), [(TorchStream, 41_154), (KerasStream, 85_954)])
def test_a_stream_has_the_published_parameters(stream: type[torch.nn.Module], count: int) -> None:
    assert sum(p.numel() for p in stream().parameters()) == count


@pytest.mark.parametrize(
    ("rows", "block", "compat"), [(371, 30, 12), (757, 30, 25), (396, 30, 13), (60, 30, 1), (30, 30, 0)]
)
def test_the_compatible_rule_loses_the_last_whole_clip(rows: int, block: int, compat: int) -> None:
    assert len(clips(landmark_rows(rows), block, compat=True)) == compat
    assert len(clips(landmark_rows(rows), block)) == rows // block


@given(st.integers(0, 200), st.integers(2, 60))
def test_clips_are_the_rows_in_order(count: int, length: int) -> None:
    rows = landmark_rows(count)
    cut = clips(rows, length)
    assert cut.shape == (count // length, length, 136)
    assert np.array_equal(cut.reshape(-1, 136), rows[: count // length * length])
    starts = [start for start in range(0, count, length) if start < count - length]
    assert len(clips(rows, length, compat=True)) == len(starts)


def test_the_logit_is_the_log_odds_of_the_mean_of_both_streams() -> None:
    model = network()
    output = model(model.prepare(clips(landmark_rows(120), 30)))
    mean = (output.aux["g1"][:, 1].exp() + output.aux["g2"][:, 1].exp()) / 2
    assert torch.allclose(torch.sigmoid(output.logit), mean, atol=1e-6)
    assert output.embedding is not None and output.embedding.shape == (4, 128)


def test_streams_that_are_certain_give_a_finite_logit_and_loss() -> None:
    model = network()
    with torch.no_grad():
        for stream in (model.g1, model.g2):
            stream.output.weight.zero_()
            stream.output.bias.copy_(torch.tensor([-500.0, 500.0]))
    output = model(model.prepare(clips(landmark_rows(60), 30)))
    assert bool(torch.isfinite(output.logit).all())
    assert model.loss(output, Truth(torch.zeros(2))).item() == pytest.approx(2000)
    assert model.loss(output, Truth(torch.ones(2))).item() == pytest.approx(0)


def test_the_second_stream_reads_only_motion() -> None:
    model = network().double()
    still = np.repeat(landmark_rows(1), 30, axis=0)[None].astype(np.float64)
    base, moved = (model(model.prepare(value)).aux for value in (still, still + 0.25))
    assert torch.allclose(base["g2"], model(model.prepare(np.zeros((1, 30, 136)))).aux["g2"])
    assert torch.allclose(base["g2"], moved["g2"])
    assert not torch.allclose(base["g1"], moved["g1"])


def test_the_loss_is_the_sum_of_both_cross_entropies() -> None:
    model = network()
    output = model(model.prepare(clips(landmark_rows(90), 30)))
    target = torch.tensor([1, 0, 1])
    expected = sum(torch.nn.functional.nll_loss(output.aux[stream], target) for stream in ("g1", "g2"))
    assert torch.allclose(model.loss(output, Truth(target.float())), torch.as_tensor(expected))


def test_landmark_dropout_drops_whole_points_in_every_frame_alike() -> None:
    torch.manual_seed(3)
    layer = LandmarkDropout(0.1)
    dropped = layer.train()(torch.ones(4, 30, 136))
    assert bool((dropped == dropped[0, 0]).all())
    x, y = dropped[0, 0, 0::2], dropped[0, 0, 1::2]
    assert torch.equal(x, y)
    assert set(np.round(x.unique().numpy(), 6)) == {0.0, np.float32(np.round(1 / 0.9, 6))}
    shares = [float((layer(torch.ones(1, 1, 136)) == 0).float().mean()) for _ in range(200)]
    assert np.mean(shares) == pytest.approx(0.1, abs=0.01)
    assert torch.equal(layer.eval()(dropped), dropped)


def test_the_learned_initial_state_learns() -> None:
    model = network().train()
    output = model(model.prepare(clips(landmark_rows(60), 30)))
    model.loss(output, Truth(torch.tensor([0.0, 1.0]))).backward()
    for stream in (model.g1, model.g2):
        assert isinstance(stream, TorchStream) and stream.initial_state.grad is not None
        assert float(stream.initial_state.grad.abs().sum()) > 0


def test_a_track_is_the_mean_probability_and_votes_are_there_too() -> None:
    logits = np.array([4.0, -3.0, 0.0, -1.0], np.float32)
    mean = (1 / (1 + np.exp(-logits.astype(np.float64)))).mean()
    assert 1 / (1 + np.exp(-LRNet.track_logit(logits))) == pytest.approx(mean)
    assert vote_share(logits) == 0.5
    assert LRNet.track_logit(np.array([800.0, 900.0], np.float32)) > 100
    assert np.isfinite(LRNet.track_logit(np.array([-5000.0], np.float32)))


def test_a_clip_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lrnet takes \(B, 30, 136\)"):
        network().prepare(np.zeros((1, 60, 136), np.float32))


TORCH_CASES = {
    "demo_landmarks__demo_weights_block30": "demo/model_weights",
    "calibrator_example__demo_weights_block30": "demo/model_weights",
    "demo_landmarks__training_torch_weights_block30": "training/weights/torch",
    "calibrator_example__training_torch_weights_block30": "training/weights/torch",
}


@cache
def golden(shared: Path) -> dict[str, Any]:
    return json.loads((shared / "golden" / "lrnet_demo.json").read_text())


def published(shared: Path, folder: str, suffix: str) -> LRNet:
    config, state = LRNet.import_checkpoint([shared / "golden" / "lrnet" / folder / f"g{i}{suffix}" for i in (1, 2)])
    model = LRNet(config)
    model.load_state_dict(state)
    return model.eval()


def published_rows(shared: Path, video: str) -> NDArray[np.float64]:
    folder = shared / "golden" / "lrnet"
    if video == "000_003":
        return np.loadtxt(folder / "calibrator_example" / "000_003.calibrated.txt")
    return np.loadtxt(folder / "demo" / "landmarks" / f"{video}.txt")


@pytest.mark.parametrize("case", TORCH_CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_published_pytorch_weights_give_the_published_scores(shared: Path, case: str, dtype: torch.dtype) -> None:
    model = published(shared, TORCH_CASES[case], ".pth").to(dtype)
    suffix = "_float64" if dtype == torch.float64 else ""
    videos = golden(shared)["classification"][case]
    assert videos
    for video, expected in videos.items():
        samples = clips(published_rows(shared, video), 30, compat=True)
        if dtype == torch.float32:
            samples = samples.astype(np.float32)
        with torch.inference_mode():
            output = model(model.prepare(samples))
        for stream in ("g1", "g2"):
            loose = stream == "g1" and "training" in case
            tolerance = 1e-9 if dtype == torch.float64 else 4e-5 if loose else 2e-5
            found = output.aux[stream][:, 1].exp().numpy()
            assert np.allclose(found, expected[f"{stream}_fake{suffix}"], rtol=0, atol=tolerance)
        if dtype == torch.float32:
            logits = output.logit.numpy()
            assert np.allclose(torch.sigmoid(output.logit), expected["mix"], rtol=0, atol=2e-5)
            assert vote_share(logits) == pytest.approx(expected["video_score"], abs=1e-12)
            score = 1 / (1 + np.exp(-LRNet.track_logit(logits)))
            assert score == pytest.approx(expected["mean_clip_fake_prob"], abs=2e-5)


@pytest.mark.parametrize("video", ["dfo_fake", "dfo_real", "ff_fake", "ff_real"])
def test_published_keras_weights_give_the_published_scores(shared: Path, video: str) -> None:
    model = published(shared, "training/weights/tf", ".h5")
    expected = golden(shared)["classification_tf_weights_block60"]["videos"][video]
    samples = clips(published_rows(shared, video), model.config.length, compat=True)
    assert len(samples) == expected["n_clips"]
    # The published values are rounded to 8 digits, so that double precision can be held to no more than that.
    for dtype, tolerance in ((torch.float32, 2e-5), (torch.float64, 6e-9)):
        model.to(dtype)
        with torch.inference_mode():
            output = model(model.prepare(samples))
        for stream in ("g1", "g2"):
            found = output.aux[stream][:, 1].exp().numpy()
            assert np.allclose(found, expected[f"{stream}_fake"], rtol=0, atol=tolerance)
        assert vote_share(output.logit.numpy()) == pytest.approx(expected["video_score"], abs=1e-12)
