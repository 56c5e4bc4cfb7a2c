"""The registry: one place, near misses named, two detectors of one name refused."""

import pytest

from detectors import registry
from detectors.base import Detector, DetectorConfig
from detectors.methods.mesonet import MesoConfig, MesoNet


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
