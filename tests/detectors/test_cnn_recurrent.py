"""CNN and recurrent network: the specification's heads, masking of short clips, features, and Keras files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from keras_files import Keras, write_keras
from keras_networks import efficientnet
from torch import Tensor, nn

from detectors.checkpoints import CheckpointError
from detectors.methods.cnn_recurrent import CNNRecurrent, CNNRecurrentConfig, frame_features, pad_clip
from detectors.methods.cnn_recurrent.head import Recurrent, RecurrentHead
from detectors.methods.cnn_recurrent.keras import read_head
from detectors.methods.frame_cnn import FrameCNN, FrameCNNConfig
from detectors.registry import create
from preprocessing.inputs import ClipInput

MODELS = ["lstm", "bidirectional", "temporal_max", "gru", "bidirectional_gru"]


def head(model: Any, inputs: int = 512, units: int = 256) -> RecurrentHead:
    torch.manual_seed(0)
    return RecurrentHead(model, inputs, units).eval()


def small(model: Any, **config: Any) -> CNNRecurrent:
    torch.manual_seed(0)
    base = {"backbone": "mobilenetv1", "size": 64, "hidden": 16, "units": 8, "length": 6, "frozen": False}
    return CNNRecurrent(CNNRecurrentConfig.model_validate({**base, "model": model, **config})).eval()


def trained(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("model", "count"), [("lstm", 69_826), ("bidirectional", 1_644_738), ("temporal_max", 1_575_938)]
)
def test_the_heads_have_the_published_parameters(model: str, count: int) -> None:
    assert trained(head(model)) == count


def test_the_gru_heads_have_the_lstms_sizes() -> None:
    assert trained(head("gru")) == 3 * 32 * (512 + 32 + 1) + 66
    assert trained(head("bidirectional_gru")) == 2 * 3 * 256 * (512 + 256 + 1) + 3 * 32 * (512 + 32 + 1) + 66


def test_profiles() -> None:
    paper, compact = create("cnn_recurrent", "paper"), create("cnn_recurrent", "compact")
    assert trained(paper) == 1_644_738  # the frame network is frozen
    assert sum(p.numel() for p in compact.parameters()) == 1_778_370
    assert isinstance(paper.input, ClipInput) and (paper.input.length, paper.input.face.size) == (25, 160)


@pytest.mark.parametrize("lstm", [True, False])
def test_the_forget_bias_begins_at_one_and_the_second_bias_stays_zero(lstm: bool) -> None:
    recurrent = Recurrent(4, 3, lstm)
    bias = dict(recurrent.named_parameters())["rnn.bias_ih_l0"].tolist()
    assert bias == ([0] * 3 + [1] * 3 + [0] * 6 if lstm else [0] * 9)
    recurrent(torch.rand(2, 5, 4)).sum().backward()
    second = dict(recurrent.named_parameters())["rnn.bias_hh_l0"]
    assert second.grad is None and not bool(second.any())


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("valid", [1, 3, 7])
def test_what_follows_the_valid_frames_changes_nothing(model: str, valid: int) -> None:
    network = head(model, 16, 8)
    features = torch.randn(2, 7, 16, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        alone, _ = network(features[:, :valid], torch.tensor([valid, valid]))
        padded, _ = network(features, torch.tensor([valid, valid]))
    assert torch.allclose(alone, padded, atol=1e-6)


def test_lengths_may_differ_within_a_batch() -> None:
    network = head("bidirectional", 16, 8)
    features = torch.randn(3, 7, 16)
    lengths = torch.tensor([2, 7, 5])
    with torch.inference_mode():
        together, _ = network(features, lengths)
        alone = torch.cat([network(features[i : i + 1], lengths[i : i + 1])[0] for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-6)


def test_both_directions_are_pytorchs_own() -> None:
    network = head("temporal_max", 16, 8)
    assert network.both is not None
    reference = nn.LSTM(16, 8, batch_first=True, bidirectional=True)
    state = {k.removeprefix("rnn."): v for k, v in network.both.onward.state_dict().items()}
    state |= {f"{k.removeprefix('rnn.')}_reverse": v for k, v in network.both.backward_.state_dict().items()}
    reference.load_state_dict(state)
    features = torch.randn(2, 5, 16)
    with torch.inference_mode():
        found = network.both(features, torch.tensor([5, 5]))
        assert torch.allclose(found, reference(features)[0], atol=1e-6)


# --- clips


def clip(frames: int, size: int = 64) -> Any:
    return np.random.default_rng(0).integers(1, 256, (frames, size, size, 3), np.uint8)


@pytest.mark.parametrize("model", MODELS)
def test_a_short_clip_scores_as_at_its_own_length(model: str) -> None:
    padded, exact = small(model), small(model, length=4)
    exact.load_state_dict(padded.state_dict())
    frames = clip(4)
    with torch.inference_mode():
        output = padded(padded.prepare(pad_clip(frames, 6)[None]))
        assert output.aux["length"].tolist() == [4]
        assert torch.allclose(output.logit, exact(exact.prepare(frames[None])).logit, atol=1e-5)


def test_a_dark_frame_within_a_clip_is_seen() -> None:
    frames = clip(6)
    frames[2] = 0
    model = small("lstm")
    assert model.valid(model.prepare(frames[None])).tolist() == [6]
    assert model.valid(model.prepare(np.zeros_like(frames)[None])).tolist() == [1]


def test_clips_are_padded_to_their_length_only() -> None:
    assert pad_clip(clip(6), 6).shape == (6, 64, 64, 3)
    for frames in (clip(7), clip(0)):
        with pytest.raises(ValueError, match=r"a clip of 6 frames cannot be made of [07]"):
            pad_clip(frames, 6)


def test_features_are_those_of_the_frame_cnn() -> None:
    model = small("lstm")
    frames = FrameCNN(FrameCNNConfig(backbone="mobilenetv1", size=64, hidden=16)).eval()
    shared_keys = {k: v for k, v in model.state_dict().items() if not k.startswith("head.")}
    assert set(shared_keys) == {k for k in frames.state_dict() if not k.startswith("output.")}
    frames.load_state_dict({**frames.state_dict(), **shared_keys})
    clips = np.stack([clip(6), pad_clip(clip(2), 6)])
    features, lengths = frame_features(model, clips)
    assert features.shape == (2, 6, 16) and features.dtype == np.float32 and lengths.tolist() == [6, 2]
    with torch.inference_mode():
        expected = frames.features(frames.prepare(clips[0]))
        classes, _ = model.head(torch.from_numpy(features), torch.from_numpy(lengths))
        whole = model(model.prepare(clips)).aux["classes"]
    assert np.allclose(features[0], expected, atol=1e-5)
    assert torch.allclose(classes, whole, atol=1e-5)


def test_a_frozen_frame_network_does_not_move() -> None:
    model = small("temporal_max", frozen=True).train()
    before = {k: v.clone() for k, v in model.backbone.state_dict().items()}
    model(torch.rand(2, 6, 3, 64, 64)).logit.sum().backward()
    assert all(torch.equal(v, before[k]) for k, v in model.backbone.state_dict().items())
    moved = {name for name, p in model.named_parameters() if p.grad is not None}
    assert moved and all(name.startswith("head.") for name in moved)


# --- Keras files


def keras_lstm(inputs: int, units: int, random: np.random.Generator) -> list[Any]:
    shapes = ((inputs, 4 * units), (units, 4 * units), (4 * units,))
    return [random.normal(0, 0.2, shape).astype(np.float32) for shape in shapes]


def keras_states(x: Tensor, arrays: list[Any]) -> Tensor:
    """Keras' LSTM, step by step: gates i, f, c, o."""
    kernel, recurrent, bias = (torch.from_numpy(a) for a in arrays)
    h = c = torch.zeros(len(x), recurrent.shape[0])
    states = []
    for step in x.unbind(1):
        i, f, g, o = (step @ kernel + h @ recurrent + bias).chunk(4, 1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        states.append(h)
    return torch.stack(states, 1)


@pytest.mark.parametrize("model", ["lstm", "bidirectional", "temporal_max"])
def test_a_keras_file_gives_what_keras_computes(model: str, tmp_path: Path) -> None:
    random, features = np.random.default_rng(0), torch.randn(3, 5, 12)
    layers: dict[str, list[Any]] = {}
    x = features
    if model != "lstm":
        both = [keras_lstm(12, 6, random) for _ in range(2)]
        layers["bidirectional_1"] = both[0] + both[1]
        x = torch.cat([keras_states(x, both[0]), keras_states(x.flip(1), both[1]).flip(1)], 2)
    if model != "temporal_max":
        layers["lstm_2"] = keras_lstm(12, 32, random)
        x = keras_states(x, layers["lstm_2"])[:, -1]
    else:
        x = x.amax(1)
    layers["dense_1"] = [random.normal(0, 1, (x.shape[1], 2)).astype(np.float32), np.ones(2, np.float32)]
    found, units, state = read_head(write_keras(tmp_path / "head.hdf5", layers), 12)
    assert found == model
    network = RecurrentHead(found, 12, units)
    network.load_state_dict(state)
    with torch.inference_mode():
        classes, _ = network(features, torch.full((3,), 5))
    expected = x @ torch.from_numpy(layers["dense_1"][0]) + 1
    assert torch.allclose(classes, expected, atol=1e-5)


def test_a_frame_cnn_and_a_recurrent_file_make_a_detector(tmp_path: Path) -> None:
    keras, random = Keras(), np.random.default_rng(0)
    frames = torch.rand(3, 3, 160, 160, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        keras.head(efficientnet(keras, frames))
    layers = {"lstm_1": keras_lstm(512, 32, random)}
    layers["dense_1"] = [random.normal(0, 1, (32, 2)).astype(np.float32), np.ones(2, np.float32)]
    paths = [write_keras(tmp_path / "a.hdf5", layers), write_keras(tmp_path / "b.hdf5", keras.layers)]
    config, state = CNNRecurrent.import_checkpoint(paths)
    model = CNNRecurrent(config).eval()
    model.load_state_dict(state)
    with torch.inference_mode():
        output = model(frames[None])
        states = keras_states(output.aux["features"], layers["lstm_1"])[:, -1]
        frame_config, frame_state = FrameCNN.import_checkpoint(paths[1:])
        frame_cnn = FrameCNN(frame_config).eval()
        frame_cnn.load_state_dict(frame_state)
        assert torch.allclose(output.aux["features"][0], frame_cnn.features(frames), atol=1e-4)
    expected = states @ torch.from_numpy(layers["dense_1"][0]) + 1
    assert torch.allclose(output.aux["classes"], expected, atol=1e-4)


def test_a_recurrent_file_alone_is_refused(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    dense = [np.zeros((32, 2), np.float32), np.zeros(2, np.float32)]
    path = write_keras(tmp_path / "lstm.hdf5", {"lstm_1": keras_lstm(512, 32, random), "dense_1": dense})
    with pytest.raises(CheckpointError, match=r"needs two Keras files.*given: lstm\.hdf5"):
        CNNRecurrent.import_checkpoint([path])
    with pytest.raises(CheckpointError, match="no lstm, bidirectional or temporal_max network"):
        read_head(write_keras(tmp_path / "dense.hdf5", {"dense_1": dense}), 512)
