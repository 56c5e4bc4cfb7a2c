"""What two splits share stops a run, with what it is and where; what merely looks alike does not."""

import json
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut
from training_media import as_another, make_clip_pack, make_pack

from detectors.registry import create
from preprocessing.samples import landmarks, moving_portrait, write_video
from train import clips, faces
from train.__main__ import main as train
from train.clip_pack import ClipPack
from train.faces import FacePack
from train.fingerprints import NEAR, Fingerprints, distances, hash_all, joined, near_pairs, perceptual_hash
from train.labelled import Item as Labelled
from train.leak_sides import of_media, of_prepared
from train.leaks import LeakError, between, check, join, main, of_evaluation
from train.packs import held_out
from train.prepare import PreparedSet, PrepareSettings
from train.prepare.run import index, prepare
from train.real_faces import prepared
from train.recipe import Recipe


def recipe(detector: str, kind: str) -> Recipe:
    return Recipe.model_validate({"name": "t", "detector": detector, "data": {"kind": kind}, "epochs": 1, "batch": 2})


def side(name: str, count: int, **columns: list[str]) -> Fingerprints:
    """Faces that look nothing like each other or those of a side of another name."""
    rng = np.random.default_rng([ord(letter) for letter in name])
    texts = {key: np.array(columns.get(key, [""] * count)) for key in ("people", "source", "sha256")}
    files = np.array([f"{name}/{row}.jpg" for row in range(count)])
    return Fingerprints(name, files, *texts.values(), rng.integers(2**64, size=(count, 4), dtype=np.uint64))


def changed(hashes: np.ndarray, bits: int, rng: np.random.Generator) -> np.ndarray:
    """With so many bits of each row flipped."""
    flat = np.unpackbits(hashes.view(np.uint8).reshape(len(hashes), -1), axis=1)
    for row in flat:
        row[rng.choice(255, bits, replace=False)] ^= 1
    return np.ascontiguousarray(np.packbits(flat, axis=1)).view(np.uint64)


# --- hashes


@pytest.mark.parametrize(("quality", "scale"), [(90, 1.0), (60, 0.7), (40, 0.5)])
def test_a_picture_stored_again_keeps_its_hash(quality: int, scale: float) -> None:
    picture = astronaut()
    points = landmarks(picture)[:68]
    small = cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    stored = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    again = cv2.imdecode(stored, cv2.IMREAD_COLOR)
    one, other = perceptual_hash(picture, points), perceptual_hash(again, (points + 0.5) * scale - 0.5)
    assert distances(one, other) <= NEAR / 2
    assert distances(one, perceptual_hash(as_another(picture, 1), points)) > NEAR


def test_the_search_finds_what_comparing_all_pairs_finds() -> None:
    rng = np.random.default_rng(1)
    ours = rng.integers(2**64, size=(600, 4), dtype=np.uint64)
    theirs = np.concatenate([changed(ours[:200], bits, rng) for bits in (0, 10, 25, 31, 40, 41)])
    rows, found, bits = near_pairs(ours, theirs)
    assert (np.diff(bits) >= 0).all() and bits.max() <= NEAR
    assert np.array_equal(bits, distances(ours[rows], theirs[found]))
    every = {(row, place) for row in range(600) for place in np.flatnonzero(distances(ours[row], theirs) <= NEAR)}
    assert len(every) == 1000 and set(zip(rows.tolist(), found.tolist(), strict=True)) <= every
    assert len(every) - len(rows) <= 2, "at the limit about one in a thousand may be missed"


def test_the_search_is_not_quadratic() -> None:
    """20,000 by 20,000 faces are 400 million pairs: a loop over them would take ten minutes."""
    rng = np.random.default_rng(2)
    ours, theirs = (rng.integers(2**64, size=(20_000, 4), dtype=np.uint64) for _ in range(2))
    theirs[7] = changed(ours[19_999:], 20, rng)[0]
    began = time.process_time()
    rows, found, bits = near_pairs(ours, theirs)
    assert (rows.tolist(), found.tolist(), bits.tolist()) == ([19_999], [7], [20])
    assert time.process_time() - began < 40


def test_nothing_shares_nothing() -> None:
    empty = np.zeros((0, 4), np.uint64)
    assert all(len(column) == 0 for column in near_pairs(empty, empty))
    assert check(side("train", 3), side("val", 0)).leaks == []
    assert joined(np.zeros(0, "<U1"), empty).tolist() == []


def test_sources_that_share_a_picture_get_one_name_through_others_too() -> None:
    hashes = side("x", 4).hashes
    chain = np.concatenate([hashes, hashes[:2], hashes[1:2]])
    named = joined(np.array(["a", "b", "c", "d", "b", "e", "e"]), chain)
    assert named.tolist() == ["a", "a", "c", "d", "a", "a", "a"]


def test_hashes_are_kept_under_what_they_are_of(tmp_path: Path) -> None:
    picture = astronaut()
    face = (picture, landmarks(picture)[:68])
    cache = tmp_path / "kept.npz"
    first = hash_all([face], cache, "one")
    assert np.array_equal(hash_all([], cache, "one"), first), "read, not made"
    assert len(hash_all([], cache, "other")) == 0
    for damaged in (b"damaged", b"", cache.read_bytes()[:100]):
        cache.write_bytes(damaged)
        assert np.array_equal(hash_all([face], cache, "one"), first)
    assert np.array_equal(hash_all([face], tmp_path / "no" / "folder.npz", "one"), first)


# --- what is shared


def test_people_files_and_pictures_are_each_named() -> None:
    train = side(
        "train", 4, people=["a;b", "c", "", "d"], sha256=["1" * 64, "", "2" * 64, ""], source=["v", "", "", ""]
    )
    val = side("val", 3, people=["x", "b", ""], sha256=["3" * 64, "", "2" * 64], source=["", "v", ""])
    val.hashes[0] = train.hashes[3]
    with pytest.raises(LeakError) as caught:
        check(train, val, side("test", 2))
    found = {(leak.kind, leak.what, leak.files) for leak in caught.value.report.leaks}
    assert found == {
        ("identity", "b", ("train/0.jpg", "val/1.jpg")),
        ("source", "v", ("train/0.jpg", "val/1.jpg")),
        ("source", "2" * 64, ("train/2.jpg", "val/2.jpg")),
        ("near-duplicate", "0 of 255 bits apart", ("train/3.jpg", "val/0.jpg")),
    }
    assert "4 leaks between train (4 faces) and val (3 faces) and test (2 faces)" in str(caught.value)
    assert "identity b: train/0.jpg (train) and val/1.jpg (val)" in str(caught.value)
    allowed = check(train, val, allow=True)
    assert allowed.allowed and allowed.summary()["leaks"]["allowed"] == 4


def test_a_message_lists_the_first_and_counts_the_rest() -> None:
    names = [f"person {number}" for number in range(9)]
    report = check(side("train", 9, people=names), side("val", 9, people=names), allow=True)
    assert "9 leaks" in str(report) and str(report).endswith("; and 4 more") and len(report.as_dict()["leaks"]) == 9


# --- packs


@pytest.fixture(scope="module")
def leaky(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve people, one of whom validates and is somebody else's picture under another name."""
    path = make_pack(tmp_path_factory.mktemp("leaky") / "faces.npz", 12)
    pack = FacePack.load(path)
    held = held_out(pack.source, 0.4, 1)
    given, copy = int(np.flatnonzero(~held)[0]), int(np.flatnonzero(held)[0])
    starts = pack.ends - np.diff(pack.ends, prepend=0)
    shown = [given if row == copy else row for row in range(12)]
    jpegs = [pack.jpegs[starts[row] : pack.ends[row]] for row in shown]
    ends = np.cumsum([len(data) for data in jpegs]).astype(np.int64)
    FacePack(np.concatenate(jpegs), ends, pack.points[shown], pack.source, pack.dataset, pack.sha256).save(path)
    return path


@pytest.mark.parametrize("kind", ["faces", "images"])
def test_a_run_stops_where_training_and_validation_share_a_picture(leaky: Path, kind: str) -> None:
    from train.recipe import data_module

    module = data_module(kind)
    with pytest.raises(LeakError, match=r"1 leaks between train .* and validation .*near-duplicate 0 of 255.*--join"):
        module.build(module.Settings(held_out=0.4), recipe("mesonet", kind), create("mesonet"), leaky)


def test_a_leak_that_is_allowed_is_in_the_runs_summary(leaky: Path) -> None:
    settings = faces.Settings(held_out=0.4, allow_leaks=True)
    summary = faces.build(settings, recipe("mesonet", "faces"), create("mesonet"), leaky).summary
    assert summary["leaks"]["allowed"] == 1 and "near-duplicate" in summary["leaks"]["first"][0]


def test_the_command_stops_and_goes_on_where_it_is_told_to(leaky: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["mesonet-compact", "--data", str(leaky), "--dry-run", "data.settings.held_out=0.4", "backbone=null"]
    assert train(words) == 2
    assert "near-duplicate 0 of 255" in capsys.readouterr().err
    assert train([*words, "--allow-leaks"]) == 0
    told = capsys.readouterr().out
    assert "allow_leaks: true" in told and "leaks:" in told


def test_joining_the_sources_of_a_pack_mends_it(
    leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = Path(shutil.copy(leaky, tmp_path / "faces.npz"))
    assert main([str(path), "--held-out", "0.4"]) == 1
    assert main([str(path), "--held-out", "0.4", "--allow-leaks"]) == 0
    assert "(allowed)" in capsys.readouterr().out
    assert main([str(path), "--join"]) == 0 and "1 sources" in capsys.readouterr().out
    assert main([str(path), "--held-out", "0.4", "--json", str(tmp_path / "found.json")]) == 0
    assert json.loads((tmp_path / "found.json").read_text())["leaks"] == []
    assert join(path) == 0
    nowhere = tmp_path / "no/folder.json"
    assert main([str(path), "--held-out", "0.4", "--json", str(nowhere)]) == 2
    assert str(nowhere) in capsys.readouterr().err


def test_packing_gives_one_source_to_what_shows_one_picture(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    for name, quality in (("anna.jpg", 95), ("berta.jpg", 90)):
        cv2.imwrite(str(tmp_path / "set" / name), astronaut()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    packed = faces.pack_folder(tmp_path / "set", tmp_path / "faces.npz", reserved="")
    assert packed.source.tolist() == ["set/anna", "set/anna"]


def test_clips_that_share_a_picture_stop_a_run_and_can_be_joined(tmp_path: Path) -> None:
    path = make_clip_pack(tmp_path / "clips.npz", 3, 31)
    pack = ClipPack.load(path)
    twice = np.r_[np.tile(np.arange(31), 2), np.arange(31, 93)]
    starts = pack.ends - np.diff(pack.ends, prepend=0)
    jpegs = [pack.jpegs[starts[frame] : pack.ends[frame]] for frame in twice]
    names = np.array([f"set/{number}" for number in range(40)])
    share = next(s for s in range(99) if held_out(names[:4], 0.4, s).tolist()[:2] == [True, False])
    ClipPack(
        np.concatenate(jpegs), np.cumsum([len(data) for data in jpegs]).astype(np.int64), pack.points[twice],
        np.arange(31, 125, 31), names[:4], np.full(4, "set"), np.array([f"{number:064x}" for number in range(4)]),
    ).save(path)  # fmt: skip
    made = recipe("c3d", "clips").model_copy(update={"seed": share})
    with pytest.raises(LeakError, match="near-duplicate 0 of 255"):
        clips.build(clips.Settings(held_out=0.4), made, create("c3d"), path)
    assert join(path) == 1
    assert "leaks" not in clips.build(clips.Settings(held_out=0.4), made, create("c3d"), path).summary
    assert main([str(path)]) == 0, "a pack of clips is told from one of faces"


# --- prepared sets and media


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people's real videos; the third file shows the first person again, at another quality."""
    root = tmp_path_factory.mktemp("videos")
    pictures = list(moving_portrait(12))
    mirrored = [np.ascontiguousarray(picture[:, ::-1]) for picture in pictures]
    (root / "real").mkdir()
    for name, shown, quality in (("a", pictures, 20), ("b", mirrored, 20), ("c", pictures, 30)):
        write_video(root / f"real/{name}.mp4", shown, quality=quality)
    return root


def prepared_set(videos: Path, out: Path, splits: dict[str, str], people: str = "") -> Path:
    lines = ["path,label,split,identities"]
    lines += [f"real/{name}.mp4,real,{split},{people or name}" for name, split in splits.items()]
    (videos / "MANIFEST.csv").write_text("\n".join(lines))
    settings = PrepareSettings(count=3, size=160, detector="hog")
    found, notes = index("manifest", str(videos), settings)
    prepare(found, found.items, str(out), settings, local=True, notes=notes)
    return out


def test_a_prepared_set_that_parts_people_passes_and_keeps_its_hashes(videos: Path, tmp_path: Path) -> None:
    folder = prepared_set(videos, tmp_path / "set", {"a": "train", "b": "val"})
    train, validation, summary = prepared(str(folder), 0, frozenset())
    assert len(train) == len(validation) == 3 and "leaks" not in summary
    assert (folder / "fingerprints.npz").is_file()
    sides = of_prepared(PreparedSet(folder))
    assert [(one.name, one.people[0]) for one in sides] == [("train", f"{videos.name}/a"), ("val", f"{videos.name}/b")]


@pytest.mark.parametrize(
    ("splits", "people", "message"),
    [
        ({"a": "train", "b": "val", "c": "test"}, "", "near-duplicate .*real/a.mp4 .train. and real/c.mp4 .test."),
        ({"a": "train", "b": "val"}, "anna", "identity .*/anna: real/a.mp4 .train. and real/b.mp4 .val."),
    ],
)
def test_a_prepared_set_that_leaks_stops_a_run(
    videos: Path, tmp_path: Path, splits: dict[str, str], people: str, message: str
) -> None:
    folder = prepared_set(videos, tmp_path / "set", splits, people)
    with pytest.raises(LeakError, match=message):
        prepared(str(folder), 0, frozenset())
    assert prepared(str(folder), 0, frozenset(), allow_leaks=True)[2]["leaks"]["allowed"] >= 1


def test_an_evaluation_set_is_held_against_what_was_trained_on(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = prepared_set(videos, tmp_path / "set", {"a": "train", "b": "val"})
    other = tmp_path / "other"
    (other / "real").mkdir(parents=True)
    shutil.copy(videos / "real/b.mp4", other / "real/somebody.mp4")
    with pytest.raises(LeakError) as caught:
        between(other, folder)
    kinds = [leak.kind for leak in caught.value.report.leaks]
    assert kinds == ["source", "near-duplicate"] and "somebody.mp4" in str(caught.value)
    assert main([str(other), str(folder)]) == 1 and main([str(other), str(folder), "--allow-leaks"]) == 0
    assert main([str(other), str(make_pack(tmp_path / "faces.npz", 4))]) == 0
    assert "share no person, video or picture" in capsys.readouterr().out


def test_any_manifest_or_folder_of_media_can_be_compared(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    listed = videos / "mine.csv"
    listed.write_text("path,label,split\nreal/a.mp4,real,train\nreal/b.mp4,real,test\n")
    assert [one.name for one in of_media(listed)] == ["train", "test"]
    assert [one.name for one in of_media(listed, "test")] == ["test"]
    listed.unlink()
    plain = of_media(videos / "real")
    assert len(plain) == 1 and set(plain[0].people) == {""}, "file names of a plain folder name nobody"


@pytest.mark.parametrize("what", ["nothing.npz", "empty", "bad.npz", "half.npz", "nothing-yet.npz", "missing.csv"])
def test_places_that_cannot_be_compared_are_named(
    what: str, leaky: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "half.npz").write_bytes(leaky.read_bytes()[:5000])
    (tmp_path / "nothing-yet.npz").write_bytes(b"")
    (tmp_path / "bad.npz").write_bytes(b"PK")
    (tmp_path / "missing.csv").write_text("path,label\nnone.jpg,real\n")
    assert main([str(tmp_path / what)]) == 2
    assert what.split(".")[0] in capsys.readouterr().err


def test_the_files_of_an_evaluation_are_held_against_a_pack_or_a_prepared_set(
    videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = prepared_set(videos, tmp_path / "set", {"a": "train"})
    shown = [Labelled(videos / "real/a.mp4", 0), Labelled(videos / "real/b.mp4", 0)]
    with pytest.raises(LeakError, match=r"a\.mp4 .evaluated.*--allow-leaks"):
        of_evaluation(shown, folder)
    report = of_evaluation(shown, folder, allow=True)
    assert report.allowed and {Path(leak.files[0]).name for leak in report.leaks} == {"a.mp4"}
    assert of_evaluation(shown[1:], folder).leaks == []
