"""`ray job submit --working-dir . -- python -m train RECIPE`, against a head of our own with token authentication."""

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from landmark_sequences import write_sequences
from ray_head import RAY, running_head

pytestmark = [pytest.mark.slow, pytest.mark.e2e]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a client of a running head."""
    with running_head(tmp_path_factory.mktemp("head") / "head.log") as running:
        yield running.client


@pytest.fixture
def clean_checkout(tmp_path: Path) -> Path:
    """What git holds, weights and all: a clone of what is committed."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: there is nothing to submit")
    folder, trust = tmp_path / "checkout", tmp_path / "gitconfig"
    trust.write_text("[safe]\n\tdirectory = *\n")  # a checkout that another user owns is one too
    environment = os.environ | {"GIT_CONFIG_GLOBAL": str(trust)}
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True, timeout=60, env=environment)
    return folder


def test_a_submitted_job_trains_and_leaves_its_run(head: dict[str, str], clean_checkout: Path, tmp_path: Path) -> None:
    data, runs = write_sequences(tmp_path / "sequences"), tmp_path / "runs"
    train = [
        "python", "-m", "train", "lrnet-compact", "--data", str(data), "--workers", "2", "--storage-path", str(runs),
        "epochs=2", "batch=16", "data.settings.windows=8",
    ]  # fmt: skip
    submit = [str(RAY), "job", "submit", "--working-dir", ".", "--", *train]
    ended = subprocess.run(
        submit, cwd=clean_checkout, env=head, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280
    )
    # The client follows the job's log until its end.
    assert ended.returncode == 0, ended.stdout[-4000:]
    assert "2 CPU workers of Ray Train" in ended.stdout and "epoch 2: training loss" in ended.stdout
    assert f"in {runs}/lrnet-compact" in ended.stdout and "succeeded" in ended.stdout
    lines = [json.loads(line) for line in (runs / "lrnet-compact/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1] and all(0 <= line["auc"] <= 1 for line in lines)
    assert (runs / "lrnet-compact/best.pt").stat().st_size > 0
    assert list((runs / "lrnet-compact/tensorboard").glob("events.*"))


def test_a_submitted_batch_leaves_its_parquet(head: dict[str, str], clean_checkout: Path, tmp_path: Path) -> None:
    media, output = ROOT / "ui/samples/astronaut-fake.jpg", tmp_path / "found"
    batch = ["python", "-m", "serve.batch", str(media), "--output", str(output), "--address", "auto", "--workers", "1"]
    submit = [str(RAY), "job", "submit", "--working-dir", ".", "--", *batch]
    ended = subprocess.run(
        submit, cwd=clean_checkout, env=head, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=280
    )
    assert ended.returncode == 0, ended.stdout[-4000:]
    assert f"1 analysed, 0 failed, 0 were there before: {output}" in ended.stdout
    (row,) = [row for part in output.glob("part-*.parquet") for row in pq.read_table(part).to_pylist()]
    assert row["status"] == "done" and 0 <= row["score"] <= 1


def test_without_the_token_nothing_is_accepted(head: dict[str, str], tmp_path: Path) -> None:
    stranger = {key: value for key, value in head.items() if key not in ("RAY_AUTH_TOKEN", "RAY_AUTH_MODE")}
    stranger |= {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    refused = subprocess.run(
        [str(RAY), "job", "submit", "--", "true"], env=stranger, capture_output=True, text=True, timeout=200
    )
    assert refused.returncode != 0
    assert "token" in (refused.stdout + refused.stderr).lower()
    with pytest.raises(urllib.error.HTTPError) as answer:
        urllib.request.urlopen(f"{head['RAY_ADDRESS']}/api/jobs/", timeout=30)
    assert answer.value.code in (401, 403)
