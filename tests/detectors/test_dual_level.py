"""The dual-level network: the published figures, losses by hand, its variants, and its published file's layout."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.fft import dctn
from torch import Tensor, nn

from detectors import registry
from detectors.base import Truth
from detectors.checkpoints import CheckpointError
from detectors.methods.dual_level import PADDED, DualLevel, DualLevelConfig, pad_clip
from detectors.methods.dual_level.dct import SUBSETS, Frequencies, FrequencyGate, channels
from detectors.methods.dual_level.encoders import ViTEncoder
from detectors.methods.dual_level.losses import auc_loss, branch_loss, focal_loss
from detectors.methods.dual_level.recurrent import ConvGRUCell, ConvLSTMCell
from preprocessing.inputs import ClipInput

Y = torch.tensor([0, 1, 1, 0, 1], dtype=torch.float64)
Z = torch.tensor([-1, 2, 0.3, 0.5, -0.4], dtype=torch.float64)


def network(**settings: Any) -> DualLevel:
    torch.manual_seed(0)
    return DualLevel(DualLevelConfig.model_validate({"frames": 4, **settings})).eval()


def clips(model: DualLevel, count: int = 2, frames: int | None = None) -> Tensor:
    size, length = model.config.size, frames or model.config.frames
    return torch.randn(count, length, 3, size, size, generator=torch.Generator().manual_seed(1))


# Losses


@pytest.mark.parametrize(
    ("value", "golden"),
    [
        (branch_loss(Z, Y, "bce"), 0.57632744),
        (auc_loss(Z, Y), 0.02954526),
        (auc_loss(Z, Y, pairs="violating"), 0.05909052),
        (branch_loss(Z, Y), 0.30293635),
        (
            (branch_loss(Z, Y, "bce") + auc_loss(Z, Y, pairs="violating", published_orientation=True)) / 2,
            0.39264160,
        ),
    ],
    ids=["bce", "auc", "auc over violating pairs", "branch", "as published"],
)
def test_the_losses_have_the_golden_values(value: Tensor, golden: float) -> None:
    assert value.item() == pytest.approx(golden, abs=1e-8)


def test_the_auc_loss_is_its_sum_over_pairs() -> None:
    scores = torch.sigmoid(Z).tolist()
    pairs = [(p, q) for p, y in zip(scores, Y, strict=True) if y for q, w in zip(scores, Y, strict=True) if not w]
    assert auc_loss(Z, Y, 0.4, 3).item() == pytest.approx(sum(max(0.4 - p + q, 0) ** 3 for p, q in pairs) / len(pairs))


def test_the_auc_loss_lifts_fakes_and_lowers_real_ones() -> None:
    logits = torch.tensor([0.2, 0.1, 0.0], requires_grad=True)
    (slope,) = torch.autograd.grad(auc_loss(logits, torch.tensor([0.0, 1.0, 0.0])), logits)
    assert slope[1] < 0 < min(slope[0], slope[2])


@pytest.mark.parametrize("majority", [1, 20])
def test_free_logits_find_both_classes_however_rare_one_is(majority: int) -> None:
    targets = torch.tensor([1.0] * majority + [0.0])
    logits = torch.zeros(majority + 1, requires_grad=True)
    optimiser = torch.optim.Adam([logits], lr=0.1)
    for _ in range(400):
        optimiser.zero_grad()
        branch_loss(logits, targets).backward()
        optimiser.step()
    scores = logits.sigmoid()
    assert scores[:-1].min() > 0.99 and scores[-1] < 0.01


@pytest.mark.parametrize("targets", [torch.zeros(3), torch.ones(3)])
def test_without_a_pair_the_branch_is_cross_entropy(targets: Tensor) -> None:
    logits = torch.tensor([-1.0, 0.0, 2.0], requires_grad=True)
    assert auc_loss(logits, targets).item() == 0
    assert torch.equal(branch_loss(logits, targets), branch_loss(logits, targets, "bce"))
    (slope,) = torch.autograd.grad(branch_loss(logits, targets), logits)
    assert bool(torch.isfinite(slope).all())


def test_pairs_that_are_far_enough_apart_cost_nothing() -> None:
    logits, targets = torch.tensor([9.0, -9.0]), torch.tensor([1.0, 0.0])
    assert auc_loss(logits, targets).item() == 0
    assert torch.equal(branch_loss(logits, targets), branch_loss(logits, targets, "bce"))


def test_the_focal_loss_is_its_formula() -> None:
    s, y = torch.sigmoid(Z), Y
    expected = -0.6 * (1 - s) ** 2 * y * s.log() - 0.4 * s**2 * (1 - y) * (1 - s).log()
    assert torch.allclose(focal_loss(Z, Y), expected.mean())
    assert torch.isfinite(focal_loss(torch.tensor([-200.0, 200.0]), torch.tensor([1.0, 0.0])))


def test_the_loss_weighs_video_and_frames_and_leaves_padded_frames_out() -> None:
    model = network(encoder="mobilenetv1", hidden=16)
    output = model(clips(model, 3))
    label = torch.tensor([0.0, 1.0, 0.0])
    assert output.frame_logit is not None
    video, frames = (
        branch_loss(output.logit, label),
        branch_loss(output.frame_logit.flatten(), label.repeat_interleave(4)),
    )
    assert torch.allclose(model.loss(output, Truth(label)), 0.6 * video + 0.4 * frames)
    frame_label = torch.tensor([[0.0, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, PADDED]])
    found = model.loss(output, Truth(label, frame_label))
    frames = branch_loss(output.frame_logit.flatten()[:-1], frame_label.flatten()[:-1])
    assert torch.allclose(found, 0.6 * video + 0.4 * frames)


# The network


@pytest.mark.parametrize(
    ("settings", "count"),
    [({}, 26_069_058), ({"arch": "crnn", "recurrent": "lstm"}, 27_969_602), ({"arch": "resnet3d"}, 14_400_450)],
)
def test_the_networks_have_the_published_parameters(settings: dict[str, str], count: int) -> None:
    assert sum(p.numel() for p in network(**settings).parameters()) == count


def test_the_profiles_are_the_published_network_and_a_small_one() -> None:
    paper, compact = (registry.entry("dual_level").profiles[p] for p in ("paper", "compact"))
    assert (paper.frames, paper.stride, paper.size) == (300, 1, 64)  # type: ignore[attr-defined]
    assert paper == DualLevelConfig()
    small = registry.create("dual_level")
    assert sum(p.numel() for p in small.parameters()) == 1_722_578
    assert isinstance(small.input, ClipInput) and small.input.length == compact.frames == 16  # type: ignore[attr-defined]


VARIANTS: list[dict[str, Any]] = [
    {},
    {"recurrent": "lstm", "bidirectional": True, "encoder": "mobilenetv1", "hidden": 16},
    {"encoder": "vit"},
    {"encoder": "vit", "strided_patches": True},
    {"encoder": "resvit"},
    {"encoder": "dct"},
    {"encoder": "dct", "gate": True},
    {"encoder": "dct", "frequencies": "learned24"},
    {"arch": "crnn", "encoder": "mobilenetv1"},
    {"arch": "crnn", "encoder": "mobilenetv1", "recurrent": "lstm"},
    {"arch": "resnet3d"},
]


@pytest.mark.parametrize("settings", VARIANTS, ids=lambda s: " ".join(map(str, s.values())) or "published")
def test_every_variant_scores_and_learns(settings: dict[str, Any]) -> None:
    model = network(**settings)
    batch, label = clips(model), torch.tensor([0.0, 1.0])
    with torch.inference_mode():
        together, alone = model(batch), model(batch[1:])
    assert together.logit.shape == (2,)
    assert torch.allclose(together.logit[1:], alone.logit, atol=1e-5)
    if model.config.arch == "dual":
        assert together.frame_logit is not None and together.frame_logit.shape == (2, 4)
    else:
        assert together.frame_logit is None
    model.train()
    model.loss(model(batch), Truth(label)).backward()
    missing = [k for k, p in model.named_parameters() if p.grad is None or not bool(torch.isfinite(p.grad).all())]
    assert not missing


def test_frames_are_in_order_and_the_video_is_not_looked_at_backwards() -> None:
    model = network(encoder="mobilenetv1", hidden=16, frames=6)
    batch = clips(model)
    with torch.inference_mode():
        whole, part = model(batch).frame_logit, model(batch[:, :3]).frame_logit
    assert whole is not None and part is not None
    assert torch.allclose(whole[:, :3], part, atol=1e-5)


@pytest.mark.parametrize("frames", [1, 15, 17, 40])
def test_a_clip_may_have_any_length(frames: int) -> None:
    model = network(encoder="mobilenetv1", hidden=16)
    with torch.inference_mode():
        output = model(clips(model, 1, frames))
    assert output.embedding is not None and output.embedding.shape == (1, 256)
    assert output.frame_logit is not None and output.frame_logit.shape == (1, frames)


def test_the_video_head_reads_sixteen_slots_of_time() -> None:
    model = network(encoder="mobilenetv1", hidden=32, frames=300)
    states = torch.arange(300.0)[None, :, None].expand(1, 300, 32)

    class Clock(nn.Module):
        def forward(self, vectors: Tensor) -> tuple[Tensor, None]:
            return states, None

    model.rnn = Clock()  # type: ignore[assignment]
    with torch.inference_mode():
        pooled = model(torch.zeros(1, 300, 3, 32, 32)).embedding
    assert pooled is not None
    rows = [9, 27.5, 46.5, 65, 84, 102.5, 121.5, 140, 159, 177.5, 196.5, 215, 234, 252.5, 271.5, 290]
    assert torch.allclose(pooled.reshape(16, 16), torch.tensor(rows)[:, None].expand(16, 16))


def test_the_logit_is_the_head_on_the_embedding() -> None:
    model = network(encoder="mobilenetv1", hidden=16)
    output = model(clips(model))
    assert torch.allclose(model.video_head(output.embedding).squeeze(1), output.logit)


@pytest.mark.parametrize("training", [False, True])
def test_chunks_of_time_save_memory_and_change_nothing_else(training: bool) -> None:
    whole, cut = (network(encoder="mobilenetv1", hidden=16, chunk=c, freeze_norm=True) for c in (4, 3))
    batch = clips(whole)
    found = []
    for model in (whole, cut):
        model.train(training)
        output = model(batch)
        model.loss(output, Truth(torch.tensor([0.0, 1.0]))).backward()
        found.append((output.logit, model.encoder.backbone.net.conv_stem.weight.grad))  # type: ignore[union-attr]
    assert torch.allclose(found[0][0], found[1][0], atol=1e-6)
    assert torch.allclose(found[0][1], found[1][1], atol=1e-5)


def test_a_frozen_norm_keeps_its_statistics() -> None:
    frozen, free = (network(encoder="mobilenetv1", hidden=16, freeze_norm=f).train() for f in (True, False))
    for model, moved in ((frozen, False), (free, True)):
        before = {k: v.clone() for k, v in model.named_buffers() if "running_mean" in k}
        model(clips(model))
        assert any(not torch.equal(before[k], v) for k, v in model.named_buffers() if k in before) is moved


def test_a_short_track_repeats_its_last_crop() -> None:
    crops = np.arange(3 * 2 * 2 * 3, dtype=np.uint8).reshape(3, 2, 2, 3)
    clip, real = pad_clip(crops, 5)
    assert np.array_equal(clip, crops[[0, 1, 2, 2, 2]]) and real.tolist() == [True, True, True, False, False]
    clip, real = pad_clip(crops, 2)
    assert np.array_equal(clip, crops[:2]) and real.all()


@pytest.mark.parametrize("settings", [{"arch": "crnn", "encoder": "vit"}, {"encoder": "dct", "size": 32}])
def test_what_does_not_go_together_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="encoder"):
        DualLevelConfig.model_validate(settings)


# Parts of the variants


@pytest.mark.parametrize("strided", [False, True])
def test_a_patch_has_the_pixels_of_its_block_or_of_the_references_grid(strided: bool) -> None:
    place = torch.arange(64 * 64 * 3).reshape(64, 64, 3)
    patches = ViTEncoder(64, strided).patches(place.permute(2, 0, 1)[None])
    assert patches.shape == (1, 16, 768)
    for gy, gx in ((0, 0), (1, 2), (3, 3)):
        expected = place[gy::4, gx::4] if strided else place[gy * 16 : gy * 16 + 16, gx * 16 : gx * 16 + 16]
        assert torch.equal(patches[0, gy * 4 + gx], expected.reshape(-1))


def test_frequencies_are_those_of_jpeg() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.float64)
    found = Frequencies()(torch.from_numpy(rgb / 255).permute(2, 0, 1)[None].float())[0].numpy()
    assert found.shape == (192, 8, 8)
    luma = rgb @ (0.299, 0.587, 0.114) - 128
    for y, x in ((0, 0), (3, 5), (7, 7)):
        block = dctn(luma[y * 8 : y * 8 + 8, x * 8 : x * 8 + 8], norm="ortho")
        assert np.allclose(found[:64, y, x], block.ravel(), atol=2e-3)


def test_a_coloured_face_of_one_tone_has_only_mean_frequencies() -> None:
    rgb = torch.tensor([200.0, 120.0, 90.0])[None, :, None, None].expand(1, 3, 64, 64) / 255
    found = Frequencies()(rgb)[0]
    y, cb, cr = 140.5, -28.498, 42.438  # BT.601 of (200, 120, 90), chroma without its offset of 128
    for channel, value in ((0, y - 128), (64, cb), (128, cr)):
        assert torch.allclose(found[channel], torch.tensor(8 * value), atol=0.05)
    rest = [i for i in range(192) if i not in (0, 64, 128)]
    assert found[rest].abs().max() < 1e-2


@pytest.mark.parametrize(
    ("subset", "luma", "chroma"),
    [("24", 16, 4), ("64", 44, 10), ("learned24", 14, 5), ("triangle24", 12, 6), ("triangle64", 34, 15)],
)
def test_subsets_keep_as_many_frequencies_as_published(subset: Any, luma: int, chroma: int) -> None:
    kept = np.array(channels(subset))
    assert [int(((kept >= low) & (kept < low + 64)).sum()) for low in (0, 64, 128)] == [luma, chroma, chroma]


def test_every_numbered_subset_has_that_many_channels_once() -> None:
    for subset in SUBSETS:
        kept = channels(subset)
        assert len(set(kept)) == len(kept) and max(kept) < 192
        if subset != "learned24":
            assert len(kept) == int(subset.removeprefix("triangle")), subset


def test_a_gate_lets_through_or_shuts_and_is_certain_in_evaluation() -> None:
    gate = FrequencyGate(6).eval()
    with torch.no_grad():
        gate.switch.weight.zero_()
        gate.switch.bias.copy_(torch.tensor([0.0, 1, 1, 0, 0, 1, 0, 1, 1, 0, 1, 0]))
    value = torch.rand(2, 6, 3, 3)
    for _ in range(3):
        assert torch.equal(gate(value), value * torch.tensor([1.0, 0, 1, 1, 0, 0])[:, None, None])
    drawn = torch.stack([gate.train()(value) for _ in range(8)])
    assert len(drawn.unique(dim=0)) > 1
    assert bool(((drawn == 0) | torch.isclose(drawn, value)).all())


def test_convolutional_cells_follow_their_equations() -> None:
    torch.manual_seed(0)
    x, h, c = torch.randn(1, 2, 1, 1), torch.randn(1, 3, 1, 1), torch.randn(1, 3, 1, 1)
    lstm = ConvLSTMCell(2, 3)
    i, f, o, g = lstm.gates(torch.cat([x, h], 1)).chunk(4, 1)
    cell = f.sigmoid() * c + i.sigmoid() * g.tanh()
    shown, kept = lstm(x, (h, c))
    assert torch.allclose(kept, cell) and torch.allclose(shown, o.sigmoid() * cell.tanh())
    gru = ConvGRUCell(2, 3)
    reset, update = gru.gates(torch.cat([x, h], 1)).sigmoid().chunk(2, 1)
    candidate = gru.candidate(torch.cat([x, reset * h], 1)).tanh()
    assert torch.allclose(gru(x, (h, h))[0], (1 - update) * h + update * candidate)


# The published file


def published_state(**settings: Any) -> tuple[dict[str, Tensor], DualLevel]:
    """A checkpoint in the reference's names, and the network that it came from."""
    model = network(**settings)
    names = {"encoder.net": "cnn", "rnn": "rnn", "frame_head": "fc_cnn", "video_head": "fc_rnn"}
    state = {}
    for key, value in model.state_dict().items():
        new = next(f"{theirs}{key.removeprefix(ours)}" for ours, theirs in names.items() if key.startswith(ours))
        state[new] = value
    return state, model


def written(folder: Path, state: dict[str, Tensor], prefix: str = "", **extra: Any) -> Path:
    content = {"epoch": 10, "model_state_dict": {prefix + k: v for k, v in state.items()}, "optimizer_state_dict": {}}
    path = folder / "ours_gru_auc_0.15.pth"
    torch.save(content | extra, path)
    return path


def imported(path: Path) -> DualLevel:
    config, state = DualLevel.import_checkpoint([path])
    model = DualLevel(config)
    model.load_state_dict(state)
    return model.eval()


def test_the_published_layout_has_its_keys_and_shapes() -> None:
    state, _ = published_state()
    assert len(state) == 334
    assert {k.split(".")[1] for k in state if k.startswith("cnn.")} == {"0", "1", "4", "5", "6", "7"}
    shapes = {
        "cnn.0.weight": (64, 3, 7, 7),
        "rnn.weight_ih_l0": (768, 2048),
        "rnn.weight_hh_l2": (768, 256),
        "fc_cnn.weight": (1, 256),
        "fc_rnn.weight": (1, 256),
    }
    assert {k: tuple(state[k].shape) for k in shapes} == shapes
    assert {"cnn.4.0.downsample.0.weight", "cnn.7.2.bn3.running_var", "rnn.bias_ih_l1"} <= set(state)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("settings", [{}, {"recurrent": "lstm", "bidirectional": True, "layers": 2, "hidden": 32}])
def test_a_published_checkpoint_scores_as_the_network_it_came_from(
    tmp_path: Path, prefix: str, settings: dict[str, Any]
) -> None:
    state, original = published_state(**settings)
    model = imported(written(tmp_path, state, prefix, label_map={"1": 0, "0": 1}))
    assert model.config.frames == 300
    batch = clips(original)
    with torch.inference_mode():
        expected, found = original(batch), model(batch)
    assert torch.equal(found.logit, expected.logit)
    assert torch.equal(found.frame_logit, expected.frame_logit)


def test_where_the_published_one_means_real_both_heads_are_turned(tmp_path: Path) -> None:
    state, original = published_state(hidden=16, layers=1)
    batch = clips(original)
    with torch.inference_mode():
        expected = original(batch)
        for label_map, sign in (({0: 0, 1: 1}, -1), ({"real": 0, "fake": 1}, 1)):
            found = imported(written(tmp_path, state, label_map=label_map))(batch)
            assert torch.equal(found.logit, sign * expected.logit)
            assert torch.equal(found.frame_logit, sign * expected.frame_logit)


@pytest.mark.parametrize("label_map", [{"cat": 0, "dog": 1}, {"0": 1, "1": 1}, [0, 1], {"1": 0}])
def test_classes_that_nobody_knows_are_refused(tmp_path: Path, label_map: Any) -> None:
    state, _ = published_state(hidden=16, layers=1)
    with pytest.raises(CheckpointError, match="label_map"):
        DualLevel.import_checkpoint([written(tmp_path, state, label_map=label_map)])


def test_a_checkpoint_that_lacks_a_part_or_is_another_network_is_refused(tmp_path: Path) -> None:
    state, _ = published_state(hidden=16, layers=1)
    without = {k: v for k, v in state.items() if k != "fc_rnn.bias"}
    with pytest.raises(CheckpointError, match=r"missing: video_head\.bias"):
        DualLevel.import_checkpoint([written(tmp_path, without)])
    with pytest.raises(CheckpointError, match="not a checkpoint of the dual network"):
        DualLevel.import_checkpoint([written(tmp_path, {f"resnet.{k}": v for k, v in state.items()})])


def test_crops_reach_the_network_as_imagenet_pictures() -> None:
    model = network(frames=1)
    black: NDArray[np.uint8] = np.zeros((1, 1, 64, 64, 3), np.uint8)
    assert torch.allclose(
        model.prepare(black)[0, 0, :, 0, 0], -torch.tensor([0.485 / 0.229, 0.456 / 0.224, 0.406 / 0.225])
    )
