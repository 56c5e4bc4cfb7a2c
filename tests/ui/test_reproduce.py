"""`unmask reproduce`: lists what can be run, runs it, and says plainly what is missing."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import ui.cli
from detectors.store import SHIPPED
from train.reproduce import protocols
from ui.cli import app
from ui.errors import UsageError


def unmask(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["reproduce", *arguments])
    if isinstance(result.exception, UsageError):
        return 2, str(result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout


def test_without_a_name_the_protocols_and_what_they_need_are_listed() -> None:
    code, shown = unmask()
    assert code == 0
    for one in protocols():
        assert one.name in shown
    code, listed = unmask("--json", "-")
    assert {one["name"]: one["needs"] for one in json.loads(listed)} == {one.name: one.needs for one in protocols()}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("lrnet-dem",), "did you mean 'lrnet-demo'?"),
        (("xception", "--data", "nowhere"), "--data nowhere does not exist: xception needs FaceForensics++"),
        (("--data", "."), "name the protocol that --data is for"),
        (("lrnet-demo", "--data", "EMPTY"), "none of 000_003"),
        (("dual_level", "--data", "EMPTY"), "is no prepared set"),
        (("mesonet", "--json", "EMPTY/no/folder.json"), "cannot be written"),
        (("--json", "EMPTY/no/folder.json"), "cannot be written"),
    ],
)
def test_mistakes_name_the_thing_and_the_way_out(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    code, said = unmask(*(argument.replace("EMPTY", str(tmp_path)) for argument in arguments))
    assert code == 2 and message in said


def test_missing_data_is_a_sheet_of_what_was_not_reproduced() -> None:
    code, shown = unmask("face_xray")
    assert code == 3 and "0.9925" in shown and "not reproduced" in shown and "data missing" in shown.replace("\n", " ")


def test_lrnets_demo_is_reproduced_and_written_as_json_and_as_a_page(shared: Path, tmp_path: Path) -> None:
    out, page = tmp_path / "sheet.json", tmp_path / "sheet.html"
    root = str(shared / "golden/lrnet")
    code, shown = unmask("lrnet-demo", "--data", root, "--json", str(out), "--report", str(page))
    assert code == 0 and "dfo_fake, demo weights" in shown and "not reproduced" not in shown
    sheet = json.loads(out.read_text())
    assert all(line["outcome"] == "reproduced" for line in sheet["lines"]) and len(sheet["lines"]) == 28
    assert sheet["command"] == "unmask reproduce lrnet-demo --data lrnet", "no folder of this machine"
    assert root not in page.read_text() and "<table>" in page.read_text()


def test_a_place_that_cannot_keep_what_was_measured_is_named(tmp_path: Path) -> None:
    for label in ("real", "fake"):
        (tmp_path / "MesoNet" / label).mkdir(parents=True)
        shutil.copy(Path(ui.cli.__file__).parent / "samples/astronaut-real.jpg", tmp_path / "MesoNet" / label)
    (tmp_path / "file").write_text("a page")
    place = tmp_path / "file/kept"
    given = ["--data", str(tmp_path / "MesoNet"), "--weights", str(SHIPPED), "--save", str(place)]
    code, said = unmask("mesonet", *given)
    assert code == 2 and f"--save: {place} cannot be written" in said


def test_an_evaluation_of_what_was_trained_on_stops(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    samples = tmp_path / "samples"
    (samples / "real").mkdir(parents=True)
    shutil.copy(Path(ui.cli.__file__).parent / "samples/astronaut-real.jpg", samples / "real/eileen.jpg")
    evaluate = ["evaluate", "--data", str(samples), "--trained-on", str(samples)]
    stopped = CliRunner().invoke(app, evaluate)
    assert isinstance(stopped.exception, UsageError) and "near-duplicate 0 of 255" in str(stopped.exception)
    going_on = CliRunner().invoke(app, [*evaluate, "--allow-leaks", "--json", "-"])
    assert json.loads(going_on.stdout)["leaks"]["allowed"] is True
