"""GenD on DINOv3: published names, held to transformers' encoder written out, its rotary positions angle by angle."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from gend_files import DEPTH, DINO_WIDTH, Dinov3, written
from pydantic import ValidationError
from torch import Tensor
from torch.nn import functional

from detectors.checkpoints import CheckpointError, match_state
from detectors.methods.gend import GenD, GendConfig, published
from detectors.methods.gend.encoders import ENCODERS


@pytest.fixture
def tiny_dinov3(monkeypatch: pytest.MonkeyPatch) -> None:
    known = ENCODERS["dinov3_l16"]
    narrow = {"embed_dim": DINO_WIDTH, "depth": DEPTH, "num_heads": 2}
    monkeypatch.setitem(ENCODERS, "dinov3_l16", replace(known, width=DINO_WIDTH, options={**known.options, **narrow}))


@pytest.mark.parametrize("head", ["linear", "LinearNorm"])
@pytest.mark.usefixtures("tiny_dinov3")
def test_a_published_checkpoint_gives_what_dinov3_computes(tmp_path: Path, head: str) -> None:
    dino = Dinov3()
    config, state = GenD.import_checkpoint([written(dino.state, tmp_path, head)])
    assert config.arch == "dinov3_l16" and config.normalised == (head == "LinearNorm")
    model = GenD(config).eval()
    model.load_state_dict(state)
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        output = model(batch)
        features = dino.tokens(batch)[:, 0]
    z = functional.normalize(features, dim=1)
    assert output.embedding is not None and torch.allclose(output.embedding, z, atol=1e-5)
    classes = dino.classes(z if head == "LinearNorm" else features)
    assert torch.allclose(output.aux["classes"], classes, atol=1e-4)


@pytest.mark.parametrize("patches", ["concatenated", "averaged"])
@pytest.mark.usefixtures("tiny_dinov3")
def test_dinov3_offers_the_mean_of_its_patches(patches: str) -> None:
    dino = Dinov3()
    model = GenD(GendConfig.model_validate({"arch": "dinov3_l16", "patches": patches, "normalised": False})).eval()
    model.load_state_dict({k: v for k, v in published.converted(dino.state).items() if "head" not in k}, strict=False)
    batch = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        features, tokens = model.features(batch), dino.tokens(batch)
    token, mean = tokens[:, 0], tokens[:, 5:].mean(1)
    wanted = torch.cat([token, mean], 1) if patches == "concatenated" else (token + mean) / 2
    assert torch.allclose(features, wanted, atol=1e-5)
    with pytest.raises(ValidationError, match="only dinov3_l16 offers its patch tokens, clip_l14 does not"):
        GendConfig.model_validate({"patches": patches})


class NamesOnly(Dinov3):
    def draw(self, *shape: int) -> Tensor:
        return torch.empty(shape, device="meta")


def test_the_names_of_dinov3_l16_are_complete() -> None:
    state = NamesOnly(1024, 24).state
    assert sum(v.numel() for v in state.values()) == 303_129_600 + 2 * 1024 + 2
    assert published.arch(state, "model.safetensors") == "dinov3_l16"
    with torch.device("meta"):
        expected = GenD(GendConfig(arch="dinov3_l16")).state_dict()
    match_state(published.converted(state), expected, "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("feature_extractor.backbone.layer.1.attention.k_proj.weight"), r"1\.attn\.qkv\.weight"),
        (
            lambda s: s.update({"feature_extractor.backbone.layer.0.attention.k_proj.bias": torch.zeros(DINO_WIDTH)}),
            r"unexpected: feature_extractor\.backbone\.layer\.0\.attention\.k_proj\.bias",
        ),
        (
            lambda s: s.update(
                {"feature_extractor.backbone.embeddings.patch_embeddings.weight": torch.zeros(9, 3, 16, 16)}
            ),
            r"L/16, not with patches of \(9, 3, 16, 16\)",
        ),
    ],
)
@pytest.mark.usefixtures("tiny_dinov3")
def test_another_dinov3_is_refused_by_name(change: Any, message: str, tmp_path: Path) -> None:
    state = Dinov3().state
    change(state)
    with pytest.raises(CheckpointError, match=message):
        GenD.import_checkpoint([written(state, tmp_path)])
