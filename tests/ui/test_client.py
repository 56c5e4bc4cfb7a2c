"""The client against the real API, its routes, store and runner, over the in-process stages."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from hostile import build
from local_api import running_api, untrained
from typer.testing import CliRunner

from ui.cli import app
from ui.client import ApiError, Client
from ui.dashboard.files import report
from ui.samples import FOLDER

PORTRAIT = FOLDER / "astronaut-real.jpg"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("api")


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[Client]:
    with running_api(folder, untrained(folder / "weights")) as address, Client(address) as client:
        yield client


def test_a_picture_is_submitted_followed_and_answered(client: Client, tmp_path: Path) -> None:
    assert client.ready()
    analysis = client.submit(PORTRAIT)
    seen = list(client.watch(analysis))
    assert seen[-1].status == "done" and all(0 <= step.share <= 1 for step in seen)
    result = client.result(analysis)
    assert result.media.name == PORTRAIT.name and len(result.faces) == 1
    assert seen[-1].answer == client.status(analysis) and client.result("", seen[-1]) == result  # nothing asked for it
    heatmap = result.faces[0].detectors["mesonet"].heatmaps[0]
    assert client.artifact(analysis, heatmap.map).startswith(b"\x89PNG")
    assert client.artifact(analysis, heatmap.crop).startswith(b"\xff\xd8")
    client.media(analysis, tmp_path / "media")
    assert (tmp_path / "media").read_bytes() == PORTRAIT.read_bytes()
    client.set_notes(analysis, "from the archive")
    assert client.status(analysis)["notes"] == "from the archive"
    assert [one["id"] for one in client.page("archive", outcome=result.verdict)[0]] == [analysis]
    client.delete(analysis)
    with pytest.raises(ApiError, match="no such analysis"):
        client.result(analysis)


def test_bytes_and_settings_are_taken(client: Client) -> None:
    analysis = client.submit(PORTRAIT.read_bytes(), "from memory.jpg", {"detectors": ["mesonet"]})
    assert [step.status for step in client.watch(analysis)][-1] == "done"
    result = client.result(analysis)
    assert result.media.name == "from memory.jpg" and set(result.faces[0].detectors) == {"mesonet"}


def test_the_detectors_come_with_their_cards(client: Client) -> None:
    assert {card["name"] for card in client.detectors()} == {"mesonet", "lrnet"}


@pytest.mark.parametrize(
    ("kind", "code"), [("empty", "unsupported"), ("text", "unsupported"), ("png_huge", "too_large")]
)
def test_a_bad_file_is_refused_with_its_reason(client: Client, tmp_path: Path, kind: str, code: str) -> None:
    with pytest.raises(ApiError) as refusal:
        client.analyse(build(kind, tmp_path))
    assert refusal.value.code == code and refusal.value.reason


def test_a_missing_file_is_said_by_name(client: Client, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match=r"nowhere\.jpg cannot be read"):
        client.submit(tmp_path / "nowhere.jpg")


def test_an_api_that_is_not_there_is_said_with_the_way_out() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: nothing answers, nobody else gets the port
        with Client(f"http://127.0.0.1:{taken.getsockname()[1]}") as nobody:
            assert not nobody.ready()
            with pytest.raises(ApiError, match="unmask serve"):
                nobody.submit(PORTRAIT)


def test_a_report_of_the_services_analysis_is_verified_by_the_command_line(
    client: Client, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analysis = client.submit(PORTRAIT, settings={"detectors": ["mesonet"]}, again=True)
    for _ in client.watch(analysis):
        pass
    shutil.copy(PORTRAIT, tmp_path)
    (tmp_path / "r.json").write_bytes(report(client, analysis, "json"))
    monkeypatch.setenv("UNMASK_WEIGHTS", str(folder / "weights"))
    done = CliRunner().invoke(app, ["scan", "--verify", str(tmp_path / "r.json")])
    assert done.exit_code == 0, done.output
    assert f"{PORTRAIT.name}: reproduces" in done.output
