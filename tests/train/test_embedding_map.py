"""Maps of embeddings: the same for the same seed, before and after training, as points and as a page."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from detectors.methods.triplet import TripletConfig
from detectors.registry import create
from train import embedding_map as module
from train.embedding_map import before_and_after, collect, embedding_map, html, main
from train.recipe import DataSplits, EpochDataset, RecipeError

RECIPE = """
name: small
detector: triplet
config: {size: 96, widths: [8]}
data: {kind: faces}
epochs: 1
batch: 2
"""


class Pairs(EpochDataset):
    """Grey pictures, the fakes brighter."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> dict[str, Any]:
        rng = np.random.default_rng([self.epoch, index])
        pair = np.stack([rng.integers(low, low + 80, (96, 96, 3), np.uint8) for low in (20, 150)])
        return {"inputs": pair, "label": np.array([0, 1], np.float32)}


def clouds(count: int = 40, apart: float = 6.0) -> tuple[Any, Any]:
    random = np.random.default_rng(0)
    labels = np.arange(count) % 2
    return random.normal(0, 1, (count, 10)) + apart * labels[:, None], labels


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_classes_apart_stay_apart_and_a_map_repeats_itself(method: Any) -> None:
    vectors, labels = clouds()
    first, again = (embedding_map(vectors, labels, "map", method, seed=4) for _ in range(2))
    assert first == again
    assert np.array(first.points).shape == (40, 2) and first.labels == labels.tolist()
    assert first.silhouette > 0.5 > embedding_map(*clouds(apart=0.0), "map", method, seed=4).silhouette
    assert first.silhouette == pytest.approx(silhouette_score(np.array(first.points), labels), abs=1e-3)
    fakes = np.array(first.points)[labels == 1]
    assert np.allclose(first.medians["fake"], np.median(fakes, 0), atol=1e-3)


def test_what_cannot_be_mapped_is_refused() -> None:
    vectors, labels = clouds()
    with pytest.raises(ValueError, match="4 embeddings or more, of both classes"):
        embedding_map(vectors[:3], labels[:3], "map")
    with pytest.raises(ValueError, match="of both classes"):
        embedding_map(vectors, np.zeros(40), "map")
    with pytest.raises(ValueError, match="finite"):
        embedding_map(np.where(vectors > 3, np.nan, vectors), labels, "map")


def test_the_page_stands_alone() -> None:
    page = html([embedding_map(*clouds(), title, "pca") for title in ("before training", "after training")])
    assert "before training" in page and "after training" in page
    assert "<script src=" not in page


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe, and a run whose best weights are another network's than the untrained one."""
    (tmp_path / "small.yaml").write_text(RECIPE)
    build = lambda *given: DataSplits(Pairs(), Pairs(), {})  # noqa: E731
    monkeypatch.setattr(module, "data_module", lambda kind: SimpleNamespace(build=build))
    torch.manual_seed(99)
    config = TripletConfig(backbone="mobilenetv1", frozen=False, size=96, widths=(8,))
    torch.save(create("triplet", "compact", config).state_dict(), tmp_path / "best.pt")
    return tmp_path


def test_both_networks_are_mapped_on_the_same_samples(run_folder: Path) -> None:
    before, after = before_and_after(run_folder / "small.yaml", run_folder, count=10, method="pca")
    assert (before.title, after.title) == ("before training", "after training")
    assert before.labels == after.labels == [0, 1] * 5
    assert before.points != after.points
    trained = create("triplet", "compact", TripletConfig(backbone="mobilenetv1", frozen=False, size=96, widths=(8,)))
    trained.load_state_dict(torch.load(run_folder / "best.pt", weights_only=True))
    expected = embedding_map(*collect(trained, Pairs(), 10), "after training", "pca", seed=1)
    assert after == expected
    assert before_and_after(run_folder / "small.yaml", run_folder, count=10, method="pca") == [before, after]


def test_the_command_writes_points_and_page(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run_folder / "small.yaml"), "--run", str(run_folder), "--out", str(run_folder / "map")]) == 0
    written = json.loads((run_folder / "map" / "embedding-map.json").read_text())
    assert [one["title"] for one in written] == ["before training", "after training"]
    assert written[0]["method"] == "tsne" and len(written[0]["points"]) == 12
    assert "<div" in (run_folder / "map" / "embedding-map.html").read_text()
    assert "12 samples; silhouette of the classes before training" in capsys.readouterr().out


def test_a_folder_without_a_run_and_other_weights_are_refused(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = str(run_folder / "small.yaml")
    assert main([recipe, "--run", str(run_folder / "none")]) == 2
    assert "is not a run folder with a finished epoch" in capsys.readouterr().err
    assert main([recipe, "--run", str(run_folder), "config.widths=[4]"]) == 2
    assert "best.pt is not of this recipe's network" in capsys.readouterr().err


def test_a_detector_without_embeddings_has_no_map() -> None:
    class Blind(torch.nn.Module):
        name = "blind"

        def prepare(self, inputs: Any) -> Any:
            return inputs

        def forward(self, batch: Any) -> Any:
            return SimpleNamespace(embedding=None)

    with pytest.raises(RecipeError, match="blind gives no embedding"):
        collect(Blind(), Pairs(), 4)  # type: ignore[arg-type]
