"""Every compact recipe for real: begun alone, gone on with by two workers of a cluster, kept, evaluated, reported."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from landmark_sequences import write_sequences
from ray_head import Head, running_head
from training_media import make_clip_pack, make_pack

from train.export import export
from train.loop import EpochMetrics, train
from train.monitor import keep
from train.recipe import RECIPES, build_data, create_detector, load_recipe
from train.teacher import settled

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
ROOT = Path(__file__).resolve().parents[2]
EPOCHS = {"triplet-compact": 9, "cnn_recurrent-compact": 3}
"""Others 5. A triplet's loss is that of the hard ones among a worker's samples: it falls late, and differs between one
worker and two; a recurrent network's epoch takes ten times another's."""
NAMES = sorted(path.stem for path in RECIPES.glob("*-compact.yaml"))
OF_LANDMARKS = ["batch=8", "data.settings.windows=24"]
# Clean pictures: a minute's training shows that the loss falls, not that compression is seen through.
OF_PICTURES = [
    "batch=4",
    "data.settings.held_out=0.4",
    "data.settings.validation_items=4",
    "data.settings.degrade=false",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By kind of data."""
    folder = tmp_path_factory.mktemp("media")
    faces = make_pack(folder / "faces.npz", 24)
    sequences = write_sequences(folder / "sequences")
    return {
        "images": faces,
        "faces": faces,
        "clips": make_clip_pack(folder / "clips.npz", 12, 31),
        "landmark_dataset": sequences,
    }


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Head]:
    with running_head(tmp_path_factory.mktemp("head") / "head.log", cpus=5) as running:  # two runs of two workers
        yield running


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where what was trained is kept."""
    return tmp_path_factory.mktemp("weights")


@dataclass
class Trained:
    """A recipe's run: one epoch in this process, the others by the command, whose end is to come."""

    epochs: int
    out: Path
    command: Future["subprocess.CompletedProcess[str]"]


def begin(name: str, data: dict[str, Path], head: Head, out: Path, pool: Executor) -> Trained:
    """One epoch in this process; two workers of the cluster join at its checkpoint."""
    kind = load_recipe(name).data.kind
    epochs = EPOCHS.get(name, 5)
    settings = [f"epochs={epochs}", "workers=0", *(OF_LANDMARKS if kind == "landmark_dataset" else OF_PICTURES)]
    settings += [f"data.settings.faces={data['faces']}", "data.settings.windows=2"] if kind == "clips" else []
    recipe = load_recipe(name, settings)
    torch.manual_seed(recipe.seed)
    detector = create_detector(recipe)
    recipe = settled(recipe, detector)
    splits = build_data(recipe, detector, data[kind])

    def stop(metrics: EpochMetrics) -> None:
        keep(recipe, splits.summary, out)
        raise KeyboardInterrupt

    assert train(detector, splits, recipe, out, on_epoch=stop).interrupted
    command = [sys.executable, "-m", "train", name, "--data", str(data[kind]), "--out", str(out), "--resume"]
    command += ["--workers", "2", "--address", head.address, *settings]
    environment = {key: value for key, value in head.client.items() if key != "RAY_ADDRESS"}
    ended = pool.submit(subprocess.run, command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900)
    return Trained(epochs, out, ended)


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest,
    data: dict[str, Path],
    head: Head,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[dict[str, Trained]]:
    """Of every recipe that is asked for, two at a time: most of a run this short is the start of its processes."""
    asked = [item.callspec.params["name"] for item in request.session.items if item.module is request.module
             and hasattr(item, "callspec")]  # fmt: skip
    folder = tmp_path_factory.mktemp("runs")
    pool = ThreadPoolExecutor(2)
    try:
        yield {name: begin(name, data, head, folder / name, pool) for name in asked}
    finally:  # a run of the tests that is broken off does not wait for those that have not begun
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_trains_on_a_cluster(name: str, runs: dict[str, Trained], weights: Path) -> None:
    """All its epochs are there once, the loss falls, and what was trained is kept."""
    run = runs[name]
    ended = run.command.result()
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-3000:]
    lines = [json.loads(line) for line in (run.out / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(run.epochs))
    losses = [line["train_loss"] for line in lines]
    assert min(losses[2:]) < (losses[1] if name == "triplet-compact" else losses[0]), losses
    assert list((run.out / "tensorboard").iterdir())
    card = export(run.out, weights)
    assert (weights / card.file).stat().st_size == card.bytes


def test_what_was_trained_is_evaluated_and_reported(weights: Path, tmp_path: Path) -> None:
    """All of it on the bundled samples, as a user would: a table, JSON and a page."""
    kept = json.loads((weights / "manifest.json").read_text()) if (weights / "manifest.json").is_file() else []
    if not kept:
        pytest.skip("no recipe was trained before this test")
    samples = ROOT / "ui" / "samples"
    files = {"astronaut-real.jpg": "real", "astronaut-fake.jpg": "fake", "astronaut-clip.mp4": "real"}
    with (tmp_path / "MANIFEST.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label"), *((samples / one, label) for one, label in files.items())])
    command = [sys.executable, "-m", "ui.cli", "evaluate", "--data", str(tmp_path / "MANIFEST.csv")]
    command += ["--json", str(tmp_path / "found.json"), "--report", str(tmp_path / "report.html")]
    environment = os.environ | {"UNMASK_WEIGHTS": str(weights)}
    ended = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert ended.returncode == 0, (ended.stdout + ended.stderr)[-3000:]
    found = json.loads((tmp_path / "found.json").read_text())
    asked = {card["detector"] for card in kept}
    said = {name for row in found["scores"] for name in row["logits"]}
    assert said >= asked, "every trained detector gave a score to at least one sample"
    page = (tmp_path / "report.html").read_text()
    assert page.startswith("<!doctype html>") and all(name in page for name in asked)
