"""The registry: one place, near misses named, two detectors of one name refused, a new one is a new file."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import detectors.methods
from detectors import registry, store
from detectors.base import Detector, DetectorConfig, Truth
from detectors.explain import explain
from detectors.methods.mesonet import MesoConfig, MesoNet
from detectors.predict import predict
from ui.listing import input_words

TOY = """
from torch import nn

from detectors.base import Detector, DetectorConfig, DetectorOutput, Meta
from detectors.registry import register
from preprocessing.inputs import FaceInput


class ToyConfig(DetectorConfig):
    size: int = 32


@register("toy", paper=ToyConfig(size=64), compact=ToyConfig())
class Toy(Detector):
    meta = Meta("Toy", "A Toy", 2026, "https://example.org", "The mean colour.", "Apache-2.0")

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.input = FaceInput(config.size, 1.3)
        self.layer = nn.Conv2d(3, 4, 3)
        self.head = nn.Linear(4, 1)

    def forward(self, batch):
        return DetectorOutput(self.head(self.layer(batch).relu().mean((2, 3))).squeeze(1))

    def cam_layer(self):
        return self.layer
"""


def test_every_detector_is_there_with_both_profiles() -> None:
    assert {"lrnet", "mesonet"} <= set(registry.names())
    for name in registry.names():
        found = registry.entry(name)
        assert set(found.profiles) == {"paper", "compact"}
        assert found.cls.name == name


def test_an_unknown_name_gives_the_near_miss() -> None:
    with pytest.raises(ValueError, match="did you mean 'mesonet'"):
        registry.create("meso_net")


def test_a_name_like_none_lists_them_all() -> None:
    with pytest.raises(ValueError, match=r"there are .*lrnet, .*mesonet"):
        registry.create("qqq")


def test_two_detectors_of_one_name_are_refused() -> None:
    class Other(Detector):
        pass

    with pytest.raises(ValueError, match="two detectors are called 'mesonet'"):
        registry.register("mesonet", paper=DetectorConfig(), compact=DetectorConfig())(Other)
    assert registry.entry("mesonet").cls is MesoNet


def test_a_detector_without_a_profile_is_refused() -> None:
    with pytest.raises(ValueError, match="needs exactly the profiles paper and compact"):
        registry.register("half", compact=DetectorConfig())(Detector)
    assert "half" not in registry.names()


def test_a_config_overrides_the_profile() -> None:
    assert registry.create("mesonet", config=MesoConfig(arch="meso4")).config == MesoConfig(arch="meso4")


def test_a_wrong_key_in_a_config_names_the_near_miss() -> None:
    with pytest.raises(ValueError, match="did you mean 'margin'"):
        MesoConfig.model_validate({"margn": 1.3})


def test_a_new_detector_is_a_new_file_and_no_other_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found, made, trained, kept, scored and explained like the others."""
    (tmp_path / "toy.py").write_text(TOY, encoding="utf-8")
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._load_all()))
    monkeypatch.setattr(detectors.methods, "__path__", [*detectors.methods.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, "detectors.methods.toy", raising=False)
    assert "toy" in registry.names()
    torch.manual_seed(0)
    toy = registry.create("toy")
    pictures = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    toy.loss(toy(toy.prepare(pictures)), Truth(torch.tensor([0.0, 1.0]))).backward()
    assert all(p.grad is not None for p in toy.parameters())
    said = {"licence": "Apache-2.0", "data": "none", "command": "pytest", "date": "2026-01-01"}
    store.save(toy, tmp_path / "weights", half=False, profile="compact", name="toy-one", **said)
    loaded = store.load("toy", "compact", tmp_path / "weights")
    with torch.inference_mode():
        assert np.allclose(predict(loaded, pictures).logits, toy.eval()(toy.prepare(pictures)).logit, atol=1e-6)
    assert explain(loaded, pictures).maps.shape == (2, 32, 32)
    assert input_words(registry.create("toy", "paper").input) == "face of 64 px, margin 1.3"
