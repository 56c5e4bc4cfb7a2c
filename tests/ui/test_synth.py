"""`unmask synth`: what it writes, what it says, and how it ends."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from astronaut import with_heads
from numpy.typing import NDArray
from typer.testing import CliRunner, Result

from preprocessing.media import open_media
from preprocessing.samples import write_video
from ui import synth
from ui.cli import app
from ui.contact_sheet import ContactSheet
from ui.errors import UsageError
from ui.samples import FOLDER
from ui.synth_faces import Face

PORTRAIT = FOLDER / "astronaut-real.jpg"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["synth", *map(str, arguments)])


def index(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "index.jsonl").read_text().splitlines()]


def grey(path: Path) -> NDArray[np.uint8]:
    picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert picture is not None and picture.ndim == 2
    return np.asarray(picture, np.uint8)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a second of the portrait moving."""
    frames = [with_heads([(100 + 2 * step, 60, 240)], 480, 360) for step in range(12)]
    return write_video(tmp_path_factory.mktemp("clip") / "moving.mp4", frames)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two people's pictures: the portrait, and its mirror image in other colours."""
    folder = tmp_path_factory.mktemp("two")
    image = cv2.imread(str(PORTRAIT))
    cv2.imwrite(str(folder / "one.jpg"), image)
    cv2.imwrite(str(folder / "other person.png"), (image[:, ::-1] * np.array([0.9, 0.8, 1.0])).astype(np.uint8))
    return folder


def test_a_picture_gives_fakes_reals_masks_xrays_an_index_and_a_sheet(tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(PORTRAIT, "--method", "face", "--out", out, "--count", 3, "--seed", 7)
    assert result.exit_code == 0, result.stderr
    assert "3 fakes in" in result.stdout
    rows = index(out)
    assert len(rows) == 3
    for number, row in enumerate(rows):
        assert row["source"] == str(PORTRAIT) and row["frame"] is None
        assert row["sha256"] == hashlib.sha256(PORTRAIT.read_bytes()).hexdigest()
        assert (row["method"], row["family"], row["seed"], row["index"]) == ("face", "face", 7, number)
        fake, real = (cv2.imread(str(out / row[part])).astype(int) for part in ("fake", "real"))
        mask, xray = grey(out / row["mask"]), grey(out / row["xray"])
        assert fake.shape == real.shape and fake.shape[:2] == mask.shape == xray.shape
        assert (fake != real).any() and mask.max() > 200
        # A weight that rounds to level 0 can still change a pixel by a rounding.
        assert np.abs(fake - real)[mask == 0].max() <= 1
        expected = 4 * (mask / 255) * (1 - mask / 255) * 255
        assert np.abs(xray - expected).max() <= 3
    sheet = cv2.imread(str(out / "contact.jpg"))
    assert sheet.shape[1] > 4 * 176 and sheet.std() > 20


def test_the_same_seed_gives_the_same_files_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        assert run(PORTRAIT, "--method", "sbi", "--out", tmp_path / name, "--seed", seed).exit_code == 0
    fakes = [next((tmp_path / name / "fakes").iterdir()).read_bytes() for name in ("one", "again", "other")]
    assert fakes[0] == fakes[1] != fakes[2]
    assert (tmp_path / "one/index.jsonl").read_bytes() == (tmp_path / "again/index.jsonl").read_bytes()


@pytest.mark.parametrize("method", ["bi", "swap_triangles"])
def test_a_method_of_two_people_takes_the_other_from_the_folder(method: str, two: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(two, "--method", method, "--out", out).exit_code == 0
    rows = index(out)
    assert [Path(row["source"]).name for row in rows] == ["one.jpg", "other person.png"]
    assert [Path(row["partner"]["source"]).name for row in rows] == ["other person.png", "one.jpg"]
    assert all(" " not in row["fake"] for row in rows), "names of files are plain"


@pytest.mark.parametrize("method", ["bi", "swap_poisson"])
def test_a_method_of_two_people_says_so_where_there_is_one(method: str, tmp_path: Path) -> None:
    result = run(PORTRAIT, "--method", method, "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert "give a folder with several" in result.stderr and "no fake was made" in result.stderr
    assert list((tmp_path / "out").iterdir()) == [], "the folder can be named again"


def test_a_swap_takes_its_donor_by_name(two: Path, tmp_path: Path) -> None:
    donor = two / "other person.png"
    result = run(PORTRAIT, "--method", "swap_affine", "--donor", donor, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    assert index(tmp_path / "out")[0]["partner"]["source"] == str(donor)


def test_a_video_becomes_fake_videos_with_masks(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = run(clip, "--method", "reenact_mouth", "--out", out, "--count", 2)
    assert result.exit_code == 0, result.stderr
    rows = index(out)
    assert len(rows) == 2 and rows[0]["parameters"]["frames"] == 12
    frames = {}
    for part in ("fake", "real", "mask", "xray"):
        assert rows[1][part].endswith(".mp4")
        with open_media(out / rows[1][part]) as media:
            frames[part] = [frame.image for frame in media]
        assert len(frames[part]) == 12
    changed = np.abs(frames["fake"][6].astype(int) - frames["real"][6]).mean(axis=2)
    mask = frames["mask"][6][..., 0]
    assert changed[mask > 200].mean() > 5 * changed[mask == 0].mean()
    assert (out / "contact.jpg").stat().st_size > 5000


def test_a_video_becomes_pictures_of_some_frames_for_a_method_of_pictures(clip: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run(clip, "--method", "fwa", "--out", out).exit_code == 0
    assert [row["frame"] for row in index(out)] == [0, 2, 3, 5, 6, 8, 9, 11]


def test_what_fails_is_listed_by_cause_and_the_rest_is_made(two: Path, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.jpg").write_bytes(PORTRAIT.read_bytes())
    cv2.imwrite(str(folder / "wall.png"), with_heads([], 200, 160))
    cv2.imwrite(str(folder / "wall2.png"), with_heads([], 220, 160))
    (folder / "text.jpg").write_text("not a picture")
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "notes.txt").write_text("left out")
    result = run(folder, "--method", "eyes", "--out", tmp_path / "out")
    assert result.exit_code == 3
    assert [Path(row["source"]).name for row in index(tmp_path / "out")] == ["good.jpg"]
    assert "2 failed: no face was found" in result.stderr
    assert "text.jpg" in result.stderr and "empty.mp4" in result.stderr
    assert "1 files left out" in result.stderr
    assert "Traceback" not in result.stderr


def test_nothing_to_work_on_ends_with_3_and_a_sentence(tmp_path: Path) -> None:
    for source, said in ((tmp_path / "none.jpg", "no such file"), (tmp_path, "no pictures or videos")):
        result = run(source, "--method", "sbi", "--out", tmp_path / "out")
        assert result.exit_code == 3
        assert said in result.stderr
        assert not (tmp_path / "out").exists()


def test_wrong_usage_is_said_before_any_work(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(UsageError, match="did you mean swap_poisson"):
        synth.run(PORTRAIT, "swap_poison", out)
    with pytest.raises(UsageError, match="clip_face_jitter"):
        synth.run(PORTRAIT, "?", out)
    with pytest.raises(UsageError, match="it takes 1 to 1000"):
        synth.run(PORTRAIT, "sbi", out, count=0)
    out.write_text("a file")
    with pytest.raises(UsageError, match="cannot be written"):
        synth.run(PORTRAIT, "sbi", out)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="is not empty"):
        synth.run(PORTRAIT, "sbi", full)
    assert [path.name for path in full.iterdir()] == ["mine.txt"]


def test_a_picture_has_no_other_frame_to_reenact(tmp_path: Path) -> None:
    result = run(PORTRAIT, "--method", "reenact_face", "--out", tmp_path / "out")
    assert result.exit_code == 3 and "give a video" in result.stderr


def test_every_method_has_words_for_it() -> None:
    said = synth.methods()
    assert {"bi", "sbi", "fwa", "clip_face_jitter", "swap_poisson", "reenact_mouth"} <= set(said)
    assert all(said.values())


def test_a_partner_comes_to_lie_where_the_face_is() -> None:
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.integers(0, 256, (300, 260, 3), dtype=np.uint8), (0, 0), 4)
    points = rng.uniform(90, 190, (81, 2)).astype(np.float32)
    here = Face(Path("a"), "", None, image, points)
    larger = Face(Path("b"), "", None, cv2.resize(image, None, fx=3, fy=3), (points + 0.5) * 3 - 0.5)
    moved, there = larger.in_framing_of(here)
    assert np.abs(there - points).max() < 1
    assert moved.shape == image.shape
    assert np.abs(moved.astype(int) - image)[20:-20, 20:-20].mean() < 3


def test_a_sheet_shows_the_first_and_counts_the_rest(tmp_path: Path) -> None:
    sheet = ContactSheet("a title")
    picture, mask = np.full((60, 90, 3), 200, np.uint8), np.full((60, 90), 0.5, np.float32)
    for number in range(40):
        sheet.add(picture, picture, mask, f"face {number} ä")
    sheet.save(tmp_path / "contact.jpg")
    drawn = cv2.imread(str(tmp_path / "contact.jpg"))
    assert drawn.shape == (36 + 16 * 194, 2 * 4 * 176 + 8, 3)
