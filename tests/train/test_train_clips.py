"""Clips packed from real videos, and pairs of a real clip and a manipulated copy of it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError
from training_media import make_clip_pack

from detectors.registry import create
from preprocessing.crops import face_input
from preprocessing.inputs import ClipInput, FaceInput
from preprocessing.samples import moving_portrait, photograph, write_video
from train.clip_pack import ClipPack, store_clip
from train.clips import KNOWN, ClipPairs, Settings, build, main
from train.recipe import Recipe, RecipeError

SPEC = ClipInput(6, 2, FaceInput(64, 1.4))
PLAIN = {"post": False, "degrade": False, "margin_jitter": 0.0, "shift_jitter": 0.0, "flip": 0.0}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip_pack(tmp_path_factory.mktemp("clips") / "clips.npz", 4, 14)


@pytest.fixture(scope="module")
def pack(path: Path) -> ClipPack:
    return ClipPack.load(path)


def pairs(pack: ClipPack, seed: int = 1, spec: ClipInput = SPEC, **settings: object) -> ClipPairs:
    return ClipPairs(pack, np.arange(len(pack)), spec, Settings.model_validate(settings), seed)


def recipe(detector: str) -> Recipe:
    return Recipe.model_validate(
        {"name": "t", "detector": detector, "data": {"kind": "clips"}, "epochs": 1, "batch": 2}
    )


@pytest.mark.parametrize("family", KNOWN)
def test_every_family_gives_clips_with_masks_and_labels_of_frames(pack: ClipPack, family: str) -> None:
    item = pairs(pack, families={family: 1.0})[0]
    assert item["inputs"].shape == (2, 6, 64, 64, 3) and item["inputs"].dtype == np.uint8
    assert item["label"].tolist() == [0, 1] and item["source"].tolist() == [0, 0]
    assert item["frame_label"].tolist() == [[0] * 6, [1] * 6]
    real, fake = item["mask"]
    assert item["mask"].dtype == np.float32 and not real.any() and all(0 < mask.max() <= 1 for mask in fake)


def test_real_frames_are_the_crops_that_analysis_makes_at_the_detectors_stride(pack: ClipPack) -> None:
    item = pairs(pack, families={"clip_mouth_jitter": 1.0}, **PLAIN)[1]
    first = [face_input(pack.image(1, i), (0, 0), pack.landmarks(1)[i], SPEC.face) for i in range(14)]
    starts = [i for i in range(4) if np.array_equal(first[i], item["inputs"][0][0])]
    assert len(starts) == 1
    for number in range(6):
        assert np.array_equal(item["inputs"][0][number], first[starts[0] + 2 * number])


def test_a_fake_differs_where_its_mask_says_and_moves_on_its_own(pack: ClipPack) -> None:
    item = pairs(pack, families={"clip_mouth_jitter": 1.0}, **PLAIN)[0]
    changed = np.abs(np.diff(item["inputs"].astype(int), axis=0)[0]).max(axis=-1)
    mask = item["mask"][1]
    assert changed[mask == 0].max() <= 3 and changed[mask > 0.9].max() > 5
    assert len({frame.tobytes() for frame in mask}) == 6, "the mask follows the face"


def test_items_follow_from_seed_epoch_and_index_alone(pack: ClipPack) -> None:
    one, other = pairs(pack), pairs(pack)
    one.epoch = other.epoch = 2
    last, first = other[3], other[0]
    for item, again in ((first, one[0]), (last, one[3])):
        assert all(np.array_equal(again[key], item[key]) for key in item)
    one.epoch = 3
    assert not np.array_equal(one[0]["inputs"], first["inputs"])


def test_a_part_of_a_clip_can_be_manipulated(pack: ClipPack) -> None:
    data = pairs(pack, families={"clip_face_smooth": 1.0}, partial=1.0, **PLAIN)
    seen = set()
    for number in range(4):
        item = data[number]
        labels, masks = item["frame_label"][1], item["mask"][1]
        assert labels.sum() >= 2 and np.array_equal(labels > 0, masks.any(axis=(1, 2)))
        same = (item["inputs"][0] == item["inputs"][1]).all(axis=(1, 2, 3))
        assert np.array_equal(same, labels == 0)
        assert np.count_nonzero(np.diff(labels)) <= 2, "one run of frames"
        seen.add(int(labels.sum()))
    assert len(seen) > 1


def test_short_clips_repeat_their_last_frame_without_counting(pack: ClipPack) -> None:
    item = pairs(pack, spec=ClipInput(20, 1, SPEC.face), short=True)[0]
    assert item["frame_label"][:, 14:].tolist() == [[-1] * 6] * 2
    assert (item["inputs"][:, 14:] == item["inputs"][:, 13:14]).all()


def test_a_stored_clip_keeps_its_landmarks_and_one_scale(tmp_path: Path) -> None:
    picture = cv2.resize(photograph(), None, fx=3, fy=3)
    points = np.stack([np.random.default_rng(0).uniform(400, 800, (68, 2))] * 2).astype(np.float32)
    points[1] += (30, 0)
    clip = store_clip([picture, picture], points)
    assert clip is not None
    sizes = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape for data in clip.jpegs]
    assert max(max(size[:2]) for size in sizes) <= 225
    widths = [np.ptp(moved[:, 0]) / np.ptp(given[:, 0]) for moved, given in zip(clip.points, points, strict=True)]
    assert widths[0] == pytest.approx(widths[1], rel=0.01)
    assert store_clip([picture], points[:1] / 12) is None, "too small"
    assert store_clip([picture], points[:1] + 900) is None, "outside the picture"


def test_packing_finds_clips_in_videos(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "set"
    root.mkdir()
    write_video(root / "eileen_1.mp4", moving_portrait(12))
    write_video(root / "wall.mp4", [np.full((64, 64, 3), 120, np.uint8)] * 5)
    out = tmp_path / "clips.npz"
    options = ["--out", str(out), "--length", "6", "--shortest", "5", "--reserved", ""]
    assert main(["pack", "--data", str(root), *options]) == 0
    pack = ClipPack.load(out)
    assert pack.source.tolist() == ["set/eileen"] * 2 and [pack.frames(0), pack.frames(1)] == [6, 6]
    side = np.ptp(pack.landmarks(1)[0], axis=0).max()
    assert 1.7 < pack.image(1, 0).shape[0] / side < 2.2
    assert "without a face" in capsys.readouterr().err
    assert main(["pack", "--data", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert "is not a folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"families": {"clip_mouth_jiter": 1}}, "did you mean 'clip_mouth_jitter'"),
        ({"families": {"swap_affine": 1}, "hold_out": ["swap_affine"]}, "not held out"),
        ({"partial": 2}, "less than or equal to 1"),
    ],
)
def test_mistakes_in_settings_name_the_way_out(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(settings)


def test_build_says_what_is_missing(path: Path, pack: ClipPack, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="pack with --length 16"):
        build(Settings(), recipe("c3d"), create("c3d"), path)
    with pytest.raises(RecipeError, match="takes FaceInput"):
        build(Settings(), recipe("mesonet"), create("mesonet"), path)
    with pytest.raises(RecipeError, match="--data DIR"):
        build(Settings(pack=tmp_path / "none.npz"), recipe("c3d"), create("c3d"), None)
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(RecipeError, match=r"bad\.npz is not a file"):
        ClipPack.load(tmp_path / "bad.npz")
    with pytest.raises(RecipeError, match="hold them out"):
        ClipPairs(pack, np.array([0]), SPEC, Settings(families={"swap_affine": 1.0}), 1)
