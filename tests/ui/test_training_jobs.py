"""Training runs: which jobs are such, what a run's command is, what is refused before a cluster is asked."""

from __future__ import annotations

import os
import socket
from dataclasses import replace

import pytest

from ui import training_jobs
from ui.errors import UsageError
from ui.training_jobs import Cluster, Run, known_address, parsed

RUN = Run("lrnet-compact", "mine", "/data/x y", "s3://bucket/runs", "2-4", gpu=True, overrides=("epochs=5",))


def test_a_run_is_the_command_that_anybody_would_type_and_is_read_back() -> None:
    import shlex

    command = RUN.command()
    assert command == [
        "python", "-m", "train", "lrnet-compact", "--data", "/data/x y", "--workers", "2-4", "--gpu", "--storage-path",
        "s3://bucket/runs", "name=mine", "epochs=5",
    ]  # fmt: skip
    assert parsed(shlex.join(command)) == ("lrnet-compact", "s3://bucket/runs/mine")


@pytest.mark.parametrize(
    ("entrypoint", "found"),
    [
        ("python -m train --data D lrnet-compact epochs=2", ("lrnet-compact", "")),
        ("unmask train mine.yaml --storage-path /runs/", ("mine.yaml", "/runs/mine.yaml")),
        ("python -m train sweep lrnet-compact --param a=1,2", ("sweep lrnet-compact", "")),
        ("python -m serve.batch s3://x", None),
        ("python train.py", None),
        ("python -m train 'unclosed", None),
        ("", None),
    ],
)
def test_other_jobs_of_a_cluster_are_not_training_runs(entrypoint: str, found: tuple[str, str] | None) -> None:
    assert parsed(entrypoint) == found


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"workers": "none"}, "neither a number above 0 nor a range"),
        ({"workers": "4-2"}, "neither a number above 0 nor a range"),
        ({"workers": "0"}, "neither a number above 0 nor a range"),
        ({"storage": " "}, "no place for the run"),
        ({"storage": "runs"}, "absolute path"),
        ({"data": "data"}, "absolute path"),
        ({"name": "../x"}, "cannot be a run's name"),
        ({"name": "a; rm -rf /"}, "cannot be a run's name"),
    ],
)
def test_what_cannot_be_meant_is_told_before_anything_is_sent(changes: dict[str, str], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        replace(RUN, **changes).command()


@pytest.mark.parametrize("address", ["", "head", "ray://head:10001", "head:6379", "http://", "http://head:port"])
def test_an_address_of_another_kind_is_told_from_one_that_does_not_answer(address: str) -> None:
    with pytest.raises(UsageError, match="no address of a cluster"):
        Cluster(address)


def test_a_cluster_that_is_not_there_is_said_at_once_with_the_way_to_start_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: nothing answers there
        with pytest.raises(UsageError, match=r"no cluster answers at .*ray start --head"):
            Cluster(f"http://127.0.0.1:{taken.getsockname()[1]}")


def test_rays_token_of_the_environment_goes_nowhere_but_to_its_cluster_and_this_machine(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_ADDRESS", "https://ours.example:8265/")
    assert known_address() == "https://ours.example:8265"
    allowed = training_jobs._may_have_our_token
    assert allowed("https://ours.example:8265") and allowed("http://127.0.0.1:9") and allowed("http://localhost:9")
    assert not allowed("https://theirs.example:8265") and not allowed("http://127.0.0.1.example:8265")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert known_address() == training_jobs.DEFAULT


def test_the_environment_is_as_it_was_after_a_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(training_jobs.ADDRESS, raising=False)
    with training_jobs._environment(training_jobs.ADDRESS, "http://x"):
        assert os.environ[training_jobs.ADDRESS] == "http://x"
    assert training_jobs.ADDRESS not in os.environ
