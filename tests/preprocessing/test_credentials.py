"""Content credentials are read where the file cannot do harm, and said for what they are."""

from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import c2pa
import pytest
from hostile import build, picture, write_video
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from signed_media import maker, sign

from detectors.local import LocalStages, analyse_file
from preprocessing.media import credentials, probe, read_credentials
from preprocessing.media.metadata import FACTS, checked, container_facts, exif_facts, plain
from ui.cards import facts
from ui.samples import FOLDER


def test_a_signed_picture_is_valid_and_trusted_where_its_maker_is(tmp_path: Path) -> None:
    path = sign(tmp_path / "signed.jpg")
    found = read_credentials(path)
    assert found["status"] == "valid" and "problems" not in found
    assert (found["signer"], found["made_with"], found["actions"]) == ("camera 7, Maker", "test camera", "c2pa.created")
    anchors = tmp_path / "anchors.pem"
    anchors.write_bytes(maker().root)
    assert read_credentials(path, anchors)["status"] == "trusted"


def test_trust_can_be_set_for_a_whole_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    anchors = tmp_path / "anchors.pem"
    anchors.write_bytes(maker().root)
    monkeypatch.setenv("UNMASK_TRUST_ANCHORS", str(anchors))
    assert read_credentials(sign(tmp_path / "signed.jpg"))["status"] == "trusted"


def test_a_change_after_signing_is_found(tmp_path: Path) -> None:
    path = sign(tmp_path / "signed.jpg")
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.write_bytes(data)
    found = read_credentials(path)
    assert found["status"] == "invalid" and "dataHash.mismatch" in found["problems"]


def test_a_signed_video_is_read_too(tmp_path: Path) -> None:
    plain_video = write_video(tmp_path / "plain.mp4", [picture(64, 48, 60 + i) for i in range(8)])
    path = sign(tmp_path / "signed.mp4", kind="video/mp4", data=plain_video.read_bytes())
    assert read_credentials(path)["status"] == "valid" and read_credentials(plain_video) == {"status": "none"}


@pytest.mark.parametrize("kind", ["heic", "gif_still", "text", "no_file", "directory", "empty", "truncated"])
def test_files_without_credentials_start_no_process(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_ask", lambda *_: pytest.fail("nothing was there to be read"))
    found = read_credentials(build(kind, tmp_path))
    assert found["status"] in ("none", "unreadable")


def test_the_mark_alone_is_no_credential(tmp_path: Path) -> None:
    path = tmp_path / "word.jpg"
    Image.fromarray(picture(64, 48)).save(path)
    path.write_bytes(path.read_bytes() + b"c2pa")
    assert read_credentials(path)["status"] in ("none", "unreadable")


def test_credentials_that_lie_elsewhere_are_not_fetched(tmp_path: Path) -> None:
    asked = []

    class Counting(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        path = sign(tmp_path / "elsewhere.jpg", remote=f"http://127.0.0.1:{server.server_port}/manifest.c2pa")
        assert read_credentials(path)["status"] in ("none", "unreadable") and asked == []
        with pytest.raises(c2pa.C2paError), path.open("rb") as file:
            c2pa.Reader("image/jpeg", file)
        assert asked == ["/manifest.c2pa"], "the library itself would fetch them"
    finally:
        server.shutdown()
        server.server_close()


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patches=st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=16)), min_size=1, max_size=5))
def test_damaged_credentials_are_answered(tmp_path: Path, patches: list[tuple[float, bytes]]) -> None:
    path = tmp_path / "damaged.jpg"
    data = bytearray(sign(path).read_bytes())
    for where, patch in patches:
        at = 4 + int(where * (len(data) - 4 - len(patch)))
        data[at : at + len(patch)] = patch
    path.write_bytes(data)
    assert read_credentials(path)["status"] in ("none", "invalid", "valid", "unreadable")


def test_an_analysis_tells_them_apart_from_its_score(tmp_path: Path) -> None:
    portrait = (FOLDER / "astronaut-real.jpg").read_bytes()
    path = sign(tmp_path / "made.jpg", "trainedAlgorithmicMedia", data=portrait)
    stages = LocalStages()
    result, bare = (analyse_file(one, stages).result for one in (path, FOLDER / "astronaut-real.jpg"))
    assert result.provenance["status"] == "valid" and result.provenance["generated"] == "trainedAlgorithmicMedia"
    assert any("a program made it up" in notice.message for notice in result.warnings)
    assert result.score == pytest.approx(bare.score, abs=1e-2), "they do not enter the score"
    assert bare.provenance == {"status": "none"} and "none in the file" in facts(bare)
    assert "signed by camera 7" in facts(result)


def test_what_a_picture_says_of_its_making_is_told(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0110], exif[0x0131] = "Maker", "Model 7\x00", "Editor\n9 <b>"
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 0.0)}
    path = tmp_path / "photo.jpg"
    Image.fromarray(picture(64, 48)).save(path, exif=exif)
    assert probe(path).metadata == {"camera": "Maker Model 7", "software": "Editor 9 <b>", "location": "recorded"}


def test_what_a_container_says_is_told_and_the_place_is_not() -> None:
    tags = {"com.apple.quicktime.make": "Apple", "com.apple.quicktime.model": "iPhone", "ENCODER": "Lavf 62",
            "location": "+52.5+13.4/", "creation_time": "2026-01-02T03:04:05Z"}  # fmt: skip
    assert container_facts(tags) == {
        "camera": "Apple iPhone", "software": "Lavf 62", "taken": "2026-01-02T03:04:05Z", "location": "recorded",
    }  # fmt: skip


@given(st.dictionaries(st.sampled_from([*FACTS, "more"]), st.one_of(st.text(), st.binary(), st.integers(), st.none())))
def test_whatever_the_confined_process_says_is_held_to_its_form(given_: dict[str, object]) -> None:
    found = checked(given_)
    assert set(found) <= set(FACTS)
    assert all(0 < len(text) <= 200 and text.isprintable() for text in found.values())
    assert checked(["no", "dict"]) == checked(None) == {} and plain("a\x1b[31m\nb") == "a [31m b"
    assert exif_facts({0x0131: b"\xff\xfe", 0x0132: ""}).keys() <= {"software"}
