"""Evaluations as a page keeps them: started as a child, followed, refused, opened again, deleted."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ui.errors import UsageError
from ui.evaluations import Asked, Evaluation, Evaluations

SAMPLES = Path(__file__).parents[2] / "ui" / "samples"


@pytest.fixture
def kept(tmp_path: Path) -> Evaluations:
    return Evaluations(tmp_path / "evaluations")


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    for label in ("real", "fake"):
        (tmp_path / "data" / label).mkdir(parents=True)
        shutil.copy(SAMPLES / f"astronaut-{label}.jpg", tmp_path / "data" / label)
    return tmp_path / "data"


def ended(one: Evaluation, timeout_s: float = 120) -> Evaluation:
    until = time.monotonic() + timeout_s
    while one.running:
        assert time.monotonic() < until, one.said()
        time.sleep(0.1)
    return one


@pytest.mark.slow
def test_an_evaluation_runs_as_a_child_and_is_there_for_the_next_dashboard(kept: Evaluations, labelled: Path) -> None:
    asked = Asked(name="two pictures", data=str(labelled), detectors=("mesonet",), allow_fitted=True, by="ann")
    one = kept.start(asked)
    with pytest.raises(UsageError, match="two pictures is being evaluated"):
        kept.start(asked)
    with pytest.raises(UsageError, match="stop it first"):
        kept.delete(one)
    assert one.state() == "running" and [found.id for found in kept.all()] == [one.id]
    ended(one)
    again = Evaluations(kept.folder).get(one.id)
    assert again is not None and again.state() == "done", one.said()
    assert again.result is not None and again.result["items"] == 2 and set(again.result["by_detector"]) == {"mesonet"}
    assert again.progress.done == again.progress.total and (again.report() or "").startswith("<!doctype html>")
    assert again.asked.by == "ann" and not list(again.folder.glob("*.part"))
    kept.delete(again)
    assert kept.all() == [] and (labelled / "real").is_dir(), "what was named stays"


@pytest.fixture
def running(kept: Evaluations) -> Iterator[Evaluation]:
    """A folder whose process, this one, lives."""
    folder = kept.folder / ("0" * 16)
    folder.mkdir(parents=True)
    (folder / "asked.json").write_text(Asked(name="held", data="/nowhere").model_dump_json())
    with (folder / "running").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = kept.get(folder.name)
        assert found is not None
        yield found


def test_it_runs_as_long_as_its_process_holds_the_lock(kept: Evaluations, running: Evaluation) -> None:
    (running.folder / "result.json").write_text('{"half": ')
    assert running.running and running.state() == "running"
    with (running.folder / "running").open("ab") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("result", "state"),
    [("", "failed"), ("{", "failed"), ('{"partial": true}', "partial"), ('{"partial": false}', "done")],
)
def test_what_a_process_left_tells_how_it_ended(kept: Evaluations, result: str, state: str) -> None:
    folder = kept.folder / ("a" * 16)
    folder.mkdir(parents=True)
    (folder / "asked.json").write_text(Asked(name="x").model_dump_json())
    if result:
        (folder / "result.json").write_text(result)
    found = kept.get(folder.name)
    assert found is not None and found.state() == state
    found.stop()  # nothing runs: nothing is told to end


def test_data_that_are_not_there_leave_nothing_behind(kept: Evaluations, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no /no/such/place on the dashboard's machine"):
        kept.start(Asked(name="x", data="/no/such/place"))

    def broken(folder: Path) -> int:
        folder.mkdir(parents=True)
        (folder / "00001.jpg").write_bytes(b"1")
        raise UsageError("no labels")

    with pytest.raises(UsageError, match="no labels"):
        kept.start(Asked(name="x"), broken)
    assert kept.all() == [] and list(kept.folder.iterdir()) == []


@pytest.mark.parametrize("name", ["", "..", "../../etc", "A" * 16, "0" * 15])
def test_an_id_of_another_form_is_no_path(kept: Evaluations, name: str) -> None:
    assert kept.get(name) is None


def test_the_command_is_the_one_that_anybody_would_type(kept: Evaluations) -> None:
    asked = Asked(name="x", data="/d", detectors=("a", "b"), perturb="quick", limit=9, allow_fitted=True)
    command = Evaluation(kept.folder / "e", asked).command
    assert command[:3] == ["evaluate", "--data", "/d"]
    for pair in (["--detectors", "a,b"], ["--perturb", "quick"], ["--limit", "9"]):
        assert pair == command[command.index(pair[0]) :][:2]
    uploaded = Evaluation(kept.folder / "e", Asked(name="x"))
    assert uploaded.data == kept.folder / "e" / "media" and "--allow-fitted" not in uploaded.command


def test_names_of_an_upload_and_the_log_are_read_where_they_are_there(kept: Evaluations) -> None:
    one = Evaluation(kept.folder / "e", Asked(name="x"))
    assert one.names == {} and one.said() == "" and one.report() is None and one.progress.total == 0
    (one.folder / "media").mkdir(parents=True)
    (one.folder / "media" / "names.json").write_text(json.dumps({"00001.jpg": "ann.jpg"}))
    (one.folder / "log").write_bytes(b"x" * 50_000 + b"\nunmask: the end\xff")
    assert one.names == {"00001.jpg": "ann.jpg"} and len(one.said()) < 25_000 and "the end" in one.said()
