"""Trained detectors on families and people that no training showed them."""

import json
from pathlib import Path

import numpy as np
import pytest
from training_media import make_clip_pack, make_pack

from detectors.registry import create
from detectors.store import LoadedDetector, available, load
from train import withheld
from train.withheld import FAMILIES, main, measure, recipe_of, withheld_pairs


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("packs")
    return make_pack(folder / "faces.npz", 30), make_clip_pack(folder / "clips.npz", 6, 31)


def test_all_detectors_of_pictures_see_the_same_fakes(packs: tuple[Path, Path]) -> None:
    shown = []
    for name in ("mesonet", "frame_cnn"):
        pairs = withheld_pairs(recipe_of(name), load(name), packs[0], packs[0])
        assert set(pairs.settings.mixture.odds) == set(FAMILIES)
        shown.append([pairs[i]["source"][0] for i in range(len(pairs))])
    assert shown[0] == shown[1] and len(shown[0])


def test_clips_are_measured_many_times_over(packs: tuple[Path, Path]) -> None:
    loaded = LoadedDetector(create("c3d").eval(), available()["mesonet"])
    pairs = withheld_pairs(recipe_of("c3d"), loaded, packs[1], packs[0])
    assert len(pairs) % withheld.WINDOWS == 0 and pairs[0]["inputs"].shape[:2] == (2, 16)


def test_figures_are_those_of_the_shipped_weights(
    packs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = measure(["mesonet", "frame_cnn"], *packs)
    assert set(found) == {"mesonet", "frame_cnn", "fused"}
    assert all(np.isfinite(one.scores).all() and set(one.labels) == {0, 1} for one in found.values())
    assert main(["mesonet", "--faces", str(packs[0]), "--json", str(tmp_path / "found.json")]) == 0
    told = json.loads((tmp_path / "found.json").read_text())
    assert told["detectors"]["mesonet"]["auc"]["value"] == pytest.approx(
        found["mesonet"].figures()["auc"].value, abs=1e-5
    )
    assert "mesonet: auc" in capsys.readouterr().out


def test_a_missing_pack_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mesonet", "--faces", str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err
