"""GenD: golden values of the losses, what learns, and published names, held to CLIP written out from transformers'."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gend_files import DEPTH, HEADS, PATCH, WIDTH, Clip, written
from torch import Tensor, nn
from torch.nn import functional

from detectors.base import DetectorOutput, Profile, Truth
from detectors.checkpoints import CheckpointError, match_state
from detectors.methods.gend import GenD, GendConfig, published
from detectors.methods.gend.encoders import ENCODERS, Encoder
from detectors.methods.gend.losses import alignment, uniformity
from detectors.registry import create, entry

ROOT = 2**-0.5
GOLDEN = torch.tensor([[1, 0], [1, 0], [ROOT, ROOT], [0, 1], [0, 1]], dtype=torch.float64)
LABELS = torch.tensor([0, 0, 0, 1, 1])
TINY = Encoder(
    ENCODERS["clip_b32"].timm_name,
    patch=PATCH,
    width=WIDTH,
    options={"num_classes": 0, "embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS},
)


@pytest.fixture
def tiny_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    """ViT-B/32 with the same layers, of which there are fewer and narrower."""
    monkeypatch.setitem(ENCODERS, "clip_b32", TINY)


def compact() -> GenD:
    torch.manual_seed(0)
    return GenD(GendConfig(arch="mobilenetv1", size=64, learns="all", normalised=False)).eval()


def on_meta(**config: Any) -> GenD:
    """The real network without its numbers: names, shapes and what learns."""
    with torch.device("meta"):
        return GenD(GendConfig(**config))


def test_alignment_and_uniformity_have_their_golden_values() -> None:
    assert alignment(GOLDEN, LABELS).item() == pytest.approx(0.29289322, abs=1e-8)
    assert uniformity(GOLDEN).item() == pytest.approx(-1.10479762, abs=1e-8)
    assert alignment(GOLDEN.float(), LABELS.float()).item() == pytest.approx(0.29289322, abs=1e-6)
    assert uniformity(GOLDEN.float()).item() == pytest.approx(-1.10479762, abs=1e-6)


def test_without_a_pair_there_is_no_metric_loss() -> None:
    assert uniformity(GOLDEN[:1]).item() == 0
    assert alignment(GOLDEN[:1], LABELS[:1]).item() == 0
    assert alignment(GOLDEN[[0, 4]], LABELS[[0, 4]]).item() == 0


def test_uniformity_has_a_floor() -> None:
    far = torch.tensor([[0.0, 0.0], [0.0, 100.0]])
    assert uniformity(far).item() == pytest.approx(math.log(1e-6))


def test_equal_embeddings_have_finite_gradients() -> None:
    z = functional.normalize(torch.ones(4, 8), dim=1).requires_grad_()
    (uniformity(z) + alignment(z, torch.zeros(4))).backward()
    assert z.grad is not None and bool(torch.isfinite(z.grad).all())


def test_half_precision_does_not_reach_the_distances() -> None:
    z = functional.normalize(torch.randn(6, 64, generator=torch.Generator().manual_seed(0)), dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = uniformity(z)
    assert inside.dtype == torch.float32 and torch.equal(inside, uniformity(z))


def test_the_loss_is_cross_entropy_and_both_metric_losses() -> None:
    model = compact()
    classes = torch.tensor([[0.5, -1.0], [2.0, 1.0], [-0.3, 0.1], [0.0, 3.0], [1.0, 1.0]])
    output = DetectorOutput(classes[:, 1] - classes[:, 0], embedding=GOLDEN.float(), aux={"classes": classes})
    expected = functional.cross_entropy(classes, LABELS).item() + 0.5 * -1.10479762 + 0.1 * 0.29289322
    assert model.loss(output, Truth(LABELS.float())).item() == pytest.approx(expected, abs=1e-6)


def test_the_score_is_the_softmax_of_the_second_class() -> None:
    model = compact()
    with torch.inference_mode():
        output = model(torch.rand(3, 3, 64, 64) * 2 - 1)
    assert torch.allclose(output.logit.sigmoid(), output.aux["classes"].softmax(1)[:, 1], atol=1e-6)
    assert output.embedding is not None
    assert torch.allclose(output.embedding.norm(dim=1), torch.ones(3), atol=1e-6)


def test_a_track_is_the_mean_probability_of_its_frames() -> None:
    logits = np.array([-3.0, 0.5, 6.0], np.float32)
    mean = (1 / (1 + np.exp(-logits.astype(np.float64)))).mean()
    assert GenD.track_logit(logits) == pytest.approx(math.log(mean / (1 - mean)), abs=1e-9)
    assert math.isfinite(GenD.track_logit(np.array([900.0, 800.0], np.float32)))


@pytest.mark.parametrize(
    ("arch", "parameters", "norms"),
    [
        ("clip_l14", 303_179_776, 50 * 2 * 1024),
        ("clip_b16", 85_799_424, 26 * 2 * 768),
        ("clip_b32", 87_456_000, 26 * 2 * 768),
        ("pe_l14", 316_102_656, 51 * 2 * 1024),
        # transformers counts 303,129,600 with the mask token, 1,024 numbers that have no part in an answer.
        ("dinov3_l16", 303_129_600 - 1024, 49 * 2 * 1024),
    ],
)
def test_only_layer_norms_and_the_head_learn(arch: str, parameters: int, norms: int) -> None:
    model = on_meta(arch=arch)
    assert sum(p.numel() for p in model.encoder.parameters()) == parameters
    learning = {name for name, p in model.named_parameters() if p.requires_grad}
    assert sum(model.get_parameter(name).numel() for name in learning) == norms + 2 * ENCODERS[arch].width + 2
    assert all("norm" in name or name.startswith("head.") for name in learning)
    assert norms / parameters < 0.001


def test_the_paper_profile_is_clip_with_openais_activation() -> None:
    model = on_meta()
    assert model.config == create_config("paper")
    assert sum(p.numel() for p in model.parameters()) == 303_181_826
    assert {type(m.act).__name__ for m in model.encoder.modules() if hasattr(m, "fc1")} == {"QuickGELU"}
    assert {m.eps for m in model.encoder.modules() if isinstance(m, nn.LayerNorm)} == {1e-5}


def create_config(profile: Profile) -> GendConfig:
    config = entry("gend").profiles[profile]
    assert isinstance(config, GendConfig)
    return config


def test_compact_is_small_enough_to_ship_and_learns_as_a_whole() -> None:
    model = create("gend", "compact")
    assert sum(p.numel() for p in model.parameters()) == 1_614_146
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize("head", ["linear", "LinearNorm"])
@pytest.mark.usefixtures("tiny_clip")
def test_a_published_checkpoint_gives_what_clip_computes(tmp_path: Path, head: str, name: str) -> None:
    clip = Clip()
    config, state = GenD.import_checkpoint([written(clip.state, tmp_path, head, name)])
    assert config.arch == "clip_b32" and config.normalised == (head == "LinearNorm")
    model = GenD(config).eval()
    model.load_state_dict(state)
    batch = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        output = model(batch)
        features = clip.features(batch)
    z = functional.normalize(features, dim=1)
    assert output.embedding is not None and torch.allclose(output.embedding, z, atol=1e-5)
    classes = clip.classes(z if head == "LinearNorm" else features)
    assert torch.allclose(output.aux["classes"], classes, atol=1e-4)
    assert torch.allclose(output.logit, classes[:, 1] - classes[:, 0], atol=1e-4)


def renamed(state: dict[str, Tensor], old: str, new: str) -> dict[str, Tensor]:
    return {k.replace(old, new): v for k, v in state.items()}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda s: s.pop("feature_extractor.vision_model.encoder.layers.1.self_attn.k_proj.bias"),
            r"1\.attn\.qkv\.bias",
        ),
        (lambda s: s.pop("model.linear.bias"), "missing: head.bias"),
        (lambda s: s.update({"model.linear.weight": torch.zeros(3, WIDTH)}), r"head.weight is \(3, 48\)"),
        (lambda s: s.update({"feature_extractor.vision_model.lora_A": torch.zeros(1)}), "unexpected.*lora_A"),
        (
            lambda s: s.update(
                {"feature_extractor.vision_model.embeddings.patch_embedding.weight": torch.zeros(9, 3, 7, 7)}
            ),
            "no CLIP with patches",
        ),
    ],
)
@pytest.mark.usefixtures("tiny_clip")
def test_a_changed_checkpoint_is_refused_by_name(change: Any, message: str, tmp_path: Path) -> None:
    state = Clip().state
    change(state)
    with pytest.raises(CheckpointError, match=message):
        GenD.import_checkpoint([written(state, tmp_path)])


@pytest.mark.usefixtures("tiny_clip")
def test_other_encoders_and_other_networks_are_refused(tmp_path: Path) -> None:
    other = renamed(Clip().state, "feature_extractor.vision_model.", "feature_extractor.backbone.")
    with pytest.raises(CheckpointError, match=r"none of the three; a GenD on CLIP, the Perception"):
        GenD.import_checkpoint([written(other, tmp_path)])
    with pytest.raises(CheckpointError, match="no GenD"):
        GenD.import_checkpoint([written({"fc.weight": torch.zeros(2, 2)}, tmp_path)])
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"not this")
    with pytest.raises(CheckpointError, match="cannot be read as safetensors"):
        GenD.import_checkpoint([broken])


@pytest.mark.parametrize("head", [None, "mlp"])
@pytest.mark.usefixtures("tiny_clip")
def test_a_head_that_nothing_describes_is_not_guessed(tmp_path: Path, head: str | None) -> None:
    with pytest.raises(CheckpointError, match="put the published config"):
        GenD.import_checkpoint([written(Clip().state, tmp_path, head)])


def published_names(depth: int, width: int) -> dict[str, Tensor]:
    """The tensors of a GenD on CLIP L/14, without their numbers; 303,968,258 in the published file."""
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "embeddings.position_embedding.weight": (257, width),
    }
    norms = ["pre_layrnorm", "post_layernorm"]
    norms += [f"encoder.layers.{n}.layer_norm{i}" for n in range(depth) for i in (1, 2)]
    linear = {f"encoder.layers.{n}.mlp.{fc}": fc for n in range(depth) for fc in ("fc1", "fc2")}
    linear |= {f"encoder.layers.{n}.self_attn.{p}_proj": "" for n in range(depth) for p in ("q", "k", "v", "out")}
    for name in norms:
        shapes |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    for name, kind in linear.items():
        outputs, inputs = {"fc1": (4 * width, width), "fc2": (width, 4 * width)}.get(kind, (width, width))
        shapes |= {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}
    shapes = {f"feature_extractor.vision_model.{k}": v for k, v in shapes.items()}
    shapes |= {"feature_extractor.visual_projection.weight": (768, width)}
    shapes |= {"model.linear.weight": (2, width), "model.linear.bias": (2,)}
    return {k: torch.empty(v, device="meta") for k, v in shapes.items()}


def test_the_names_of_clip_l14_are_complete() -> None:
    state = published_names(24, 1024)
    assert sum(v.numel() for v in state.values()) == 303_968_258
    assert published.arch(state, "model.safetensors") == "clip_l14"
    match_state(published.converted(state), on_meta().state_dict(), "model.safetensors")


def test_the_names_of_the_perception_encoder_are_complete() -> None:
    import timm

    with torch.device("meta"):
        whole = timm.create_model("vit_pe_core_large_patch14_336", dynamic_img_size=True, num_classes=0).state_dict()
    state = {f"feature_extractor.backbone.{k}": v for k, v in whole.items()}
    state |= {"model.linear.weight": torch.empty(2, 1024), "model.linear.bias": torch.empty(2)}
    assert published.arch(state, "model.safetensors") == "pe_l14"
    match_state(published.converted(state), on_meta(arch="pe_l14").state_dict(), "model.safetensors")


@pytest.mark.usefixtures("tiny_clip")
def test_grad_cam_sees_patches_in_their_places() -> None:
    torch.manual_seed(0)
    model = GenD(GendConfig(arch="clip_b32")).eval()
    seen: list[Tensor] = []
    model.cam_layer().register_forward_hook(lambda module, inputs, output: seen.append(output))
    batch = torch.zeros(1, 3, 224, 224)
    model(batch)
    batch[..., 2 * PATCH : 3 * PATCH, 5 * PATCH : 6 * PATCH] = 1
    logit = model(batch).logit
    assert seen[0].shape == (1, WIDTH, 7, 7)
    moved = (seen[1] - seen[0]).abs().sum(1)[0]
    assert divmod(int(moved.argmax()), 7) == (2, 5)
    (gradient,) = torch.autograd.grad(logit.sum(), seen[1])
    assert bool(gradient.abs().sum() > 0)


def test_grad_cam_of_compact_looks_at_the_last_map() -> None:
    model = compact()
    seen: list[Tensor] = []
    model.cam_layer().register_forward_hook(lambda module, inputs, output: seen.append(output))
    model(torch.zeros(1, 3, 64, 64))
    assert seen[0].shape == (1, 512, 4, 4)


@pytest.mark.slow
def test_the_paper_network_answers() -> None:
    torch.manual_seed(0)
    model = create("gend", "paper").eval()
    with torch.inference_mode():
        output = model(model.prepare(np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), dtype=np.uint8)))
    assert output.embedding is not None and output.embedding.shape == (2, 1024)
    assert bool(torch.isfinite(output.logit).all())
