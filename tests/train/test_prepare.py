"""From a folder of videos to a prepared set and back: crops, landmarks, masks and outcomes are right."""

import io
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import cv2
import fsspec
import numpy as np
import pytest
from dataset_trees import faceforensics, touch, wilddeepfake
from fsspec.asyn import AsyncFileSystem
from fsspec.implementations.local import LocalFileSystem
from portraits import FRAMES, make_videos
from torch.utils.data import DataLoader

from preprocessing.crops import crop_transform, face_square
from preprocessing.inputs import FaceInput
from preprocessing.landmarks import to_81
from preprocessing.media import open_media
from preprocessing.samples import landmarks, moving_portrait, photograph, write_video
from train.prepare import PreparedSet, PrepareError, PrepareSettings
from train.prepare.run import Summary, choose, index, prepare
from train.prepare.sampling import plan_frames


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_videos(tmp_path_factory.mktemp("videos"))


def run(root: Path | str, out: Path | str, **options: object) -> Summary:
    settings = PrepareSettings.model_validate({"count": 4, "size": 160, "detector": "hog", **options})
    found, notes = index("auto", str(root), settings)
    return prepare(found, found.items, str(out), settings, local=True, notes=notes)


@pytest.fixture(scope="module")
def made(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary]:
    out = tmp_path_factory.mktemp("prepared") / "set"
    return out, run(videos, out)


def test_every_video_has_an_outcome_and_the_broken_one_its_reason(made: tuple[Path, Summary]) -> None:
    out, summary = made
    assert summary.outcomes == {"done": 4, "failed": 1, "no_face": 1}
    assert summary.failures == {"unsupported": 1} and sum(summary.samples.values()) == 16
    failure = json.loads((out / "failures.jsonl").read_text())
    assert failure["path"] == "fake/broken.mp4" and "text file" in failure["reason"]
    assert json.loads((out / "summary.json").read_text())["outcomes"] == summary.outcomes
    wall = next(video for video in PreparedSet(out).videos if video.item.path == "real/wall.mp4")
    assert wall.outcome == "no_face" and wall.record["media"]["frames"] == FRAMES


def test_samples_are_the_frames_faces_at_their_own_resolution(videos: Path, made: tuple[Path, Summary]) -> None:
    data = PreparedSet(made[0])
    assert len(data) == 16 and data.labels.sum() == 8 and data.landmarks.shape == (16, 68, 2)
    sample = next(data[i] for i in range(16) if data.video(i).item.path == "real/a.mp4" and data[i].frame > 10)
    with open_media(videos / "real/a.mp4") as media:
        frame = next(frame for frame in media if frame.index == sample.frame)
    assert sample.time == pytest.approx(frame.time, abs=1e-5)
    height, width = sample.image.shape[:2]
    assert max(height, width) <= 160
    again = cv2.warpAffine(frame.image, sample.transform, (width, height), flags=cv2.INTER_AREA)
    inner = (slice(8, -8), slice(8, -8))
    assert np.abs(again[inner].astype(int) - sample.image[inner]).mean() < 4, "the transform leads to the crop's pixels"
    shown = sample.in_crop(sample.landmarks)
    assert (shown > 0).all() and (shown < (width, height)).all()
    side = face_square(shown, 1.0)[2]
    assert 1.8 < max(height, width) / side < 2.1
    assert sample.extrapolated and np.array_equal(sample.landmarks_81, to_81(sample.landmarks[None])[0])


def test_the_index_holds_what_is_needed_to_make_a_sample_again(videos: Path, made: tuple[Path, Summary]) -> None:
    data = PreparedSet(made[0])
    video = data.video(0)
    assert video.record["sha256"] and video.record["size_bytes"] == (videos / video.item.path).stat().st_size
    assert video.item.split in ("train", "val", "test") and video.item.identities
    assert data.made_by["settings"]["count"] == 4 and data.made_by["root"] == videos.as_uri()
    assert set(data.made_by["versions"]) >= {"unmask", "opencv-python-headless", "dlib-bin", "av"}


def test_a_shard_is_a_webdataset_tar(made: tuple[Path, Summary]) -> None:
    groups: dict[str, set[str]] = {}
    for path in sorted((made[0] / "shards").glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                groups.setdefault(key, set()).add(suffix)
                if suffix == "json":
                    about = json.load(io.BytesIO(tar.extractfile(member).read()))
                    assert about["item"]["label"] in (0, 1) and len(about["landmarks"]) == 68
    assert len(groups) == 16 and all(suffixes == {"png", "json"} for suffixes in groups.values())


def test_selections_are_sets_too(made: tuple[Path, Summary]) -> None:
    data = PreparedSet(made[0])
    fakes = data.select(label=1)
    assert len(fakes) == 8 and fakes.labels.all() and fakes[0].video.item.method == "fake"
    parts = [len(data.select(split=split)) for split in ("train", "val", "test")]
    assert sum(parts) == 16
    assert len(data.select(where=lambda item: item.path.endswith("a.mp4"))) == 8
    assert len(data.select(without=frozenset({"small", "blurred"}))) <= 16


def test_aligned_crops_are_those_that_detectors_declare(videos: Path, tmp_path: Path) -> None:
    run(videos, tmp_path / "set", crop="aligned", image="jpeg", size=128, count=2)
    data = PreparedSet(tmp_path / "set")
    sample = data[0]
    assert sample.image.shape == (128, 128, 3)
    # The index keeps landmarks to a thousandth of a pixel, so the map is compared by where it takes them.
    declared = crop_transform(sample.landmarks, FaceInput(128, 2.0, "eyes"))
    expected = sample.landmarks @ declared[:, :2].T + declared[:, 2]
    assert np.abs(sample.in_crop(sample.landmarks) - expected).max() < 0.01
    eyes = sample.in_crop(sample.landmarks)[[36, 45]]
    assert abs(eyes[0, 1] - eyes[1, 1]) < 2


def test_a_users_model_of_81_points_is_stored_beside_the_68(videos: Path, tmp_path: Path) -> None:
    import dlib

    points, box = landmarks(photograph()), dlib.rectangle(170, 60, 280, 170)
    face = dlib.full_object_detection(box, [dlib.point(round(float(x)), round(float(y))) for x, y in points])
    options = dlib.shape_predictor_training_options()
    options.oversampling_amount, options.cascade_depth, options.tree_depth = 5, 4, 2
    options.num_trees_per_cascade_level, options.feature_pool_size, options.num_threads = 40, 60, 1
    model = tmp_path / "mine_81.dat"
    dlib.train_shape_predictor([photograph()], [[face]], options).save(str(model))
    run(videos, tmp_path / "set", count=1, landmark_model=model)
    data = PreparedSet(tmp_path / "set")
    assert not data[0].extrapolated and data[0].landmarks_81.shape == (81, 2)
    assert not np.array_equal(data[0].landmarks_81[:68], data[0].landmarks), "the 68 stay those of the default model"
    assert "mine_81" not in str(data.made_by["settings"]["landmark_model"]), "a model is known by its content"


def test_runs_are_whole_and_calibrated(videos: Path, tmp_path: Path) -> None:
    summary = run(videos, tmp_path / "set", count=None, runs=(2, 8))
    assert summary.outcomes["done"] == 4
    data = PreparedSet(tmp_path / "set").select(where=lambda item: item.path == "real/a.mp4")
    frames = {run: [data[i].frame for i in range(len(data)) if data[i].run == run] for run in (0, 1)}
    assert frames == {0: list(range(8)), 1: list(range(FRAMES - 8, FRAMES))}
    rows = np.stack([data[i].calibrated for i in range(len(data))])
    assert rows.shape == (16, 136) and rows.min() >= 0 and rows.max() <= 400


def test_masks_are_cut_out_with_the_face(tmp_path: Path) -> None:
    root = faceforensics(tmp_path / "ff")
    base = root / "manipulated_sequences/Deepfakes"
    pictures = list(moving_portrait(10))
    write_video(base / "c23/videos/000_003.mp4", pictures)
    mask = np.zeros((224, 224, 3), np.uint8)
    mask[60:64, 90:94] = 255  # the face lies about there, at half size
    write_video(base / "masks/videos/000_003.mp4", [mask] * 10, quality=1)
    settings = PrepareSettings(count=2, size=200)
    found, _ = index("auto", str(root), settings)
    chosen = [item for item in found.items if item.path.endswith("Deepfakes/c23/videos/000_003.mp4")]
    prepare(found, chosen, str(tmp_path / "set"), settings, local=True)
    sample = PreparedSet(tmp_path / "set")[0]
    assert sample.mask is not None and sample.mask.shape == sample.image.shape[:2]
    rows, columns = np.nonzero(sample.mask > 128)
    middle = sample.in_crop(np.array([[183.5, 123.5]], np.float32))[0]
    assert np.allclose([columns.mean(), rows.mean()], middle, atol=1.0), "both pictures of different size agree"


def test_faces_that_a_set_has_cut_out_stay_as_they_are(tmp_path: Path) -> None:
    root = wilddeepfake(tmp_path / "wild")
    face = cv2.cvtColor(photograph()[40:190, 100:250], cv2.COLOR_RGB2BGR)
    for picture in root.rglob("*.png"):
        cv2.imwrite(str(picture), face if "_test" in picture.relative_to(root).parts[0] else np.full_like(face, 90))
    run(root, tmp_path / "set", count=2)
    data = PreparedSet(tmp_path / "set")
    assert len(data) == 8
    seen, blank = data.select(split="test")[0], data.select(split="train")[0]
    assert np.array_equal(seen.image, cv2.cvtColor(face, cv2.COLOR_BGR2RGB))
    assert np.isfinite(seen.landmarks).all() and 0 < seen.landmarks.mean() < 150
    assert np.isnan(blank.landmarks).all() and blank.image.shape == (150, 150, 3)


def test_remote_roots_and_outputs_give_the_same_set(videos: Path, made: tuple[Path, Summary]) -> None:
    memory = fsspec.filesystem("memory")
    memory.put(str(videos), "/videos", recursive=True)
    try:
        assert run("memory://videos", "memory://set").outcomes == made[1].outcomes
        there, here = PreparedSet("memory://set"), PreparedSet(made[0])
        assert [there[i].key for i in range(len(there))] == [here[i].key for i in range(len(here))]
        assert all(np.array_equal(there[i].image, here[i].image) for i in (0, 7))
        with pytest.raises(PrepareError, match="--local"):
            settings = PrepareSettings()
            found, _ = index("auto", "memory://videos", settings)
            prepare(found, found.items, "memory://other", settings)
    finally:
        memory.rm("/videos", recursive=True)
        memory.rm("/set", recursive=True)


class Distant(AsyncFileSystem):
    """This machine's files by a driver that is asynchronous, as s3fs, gcsfs and adlfs are."""

    protocol = "distant"
    files = LocalFileSystem()

    async def _info(self, path: str, **options: Any) -> Any:
        return self.files.info(path)

    async def _ls(self, path: str, detail: bool = True, **options: Any) -> Any:
        return self.files.ls(path, detail)

    async def _cat_file(self, path: str, start: int | None = None, end: int | None = None, **options: Any) -> Any:
        return self.files.cat_file(path, start, end)


def test_loader_processes_read_a_set_that_lies_elsewhere(made: tuple[Path, Summary]) -> None:
    fsspec.register_implementation("distant", Distant, clobber=True)
    here, there = PreparedSet(made[0]), PreparedSet(f"distant://{made[0]}")
    assert np.array_equal(there[0].image, here[0].image)
    loader = DataLoader(there, batch_size=None, num_workers=1, collate_fn=lambda sample: sample.image)  # type: ignore[arg-type]
    for image, expected in zip(loader, (here[i].image for i in range(3)), strict=False):
        assert np.array_equal(image, expected)


def test_a_still_is_one_sample(tmp_path: Path) -> None:
    (tmp_path / "src/real").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "src/real/x.png"), cv2.cvtColor(photograph(), cv2.COLOR_RGB2BGR))
    assert run(tmp_path / "src", tmp_path / "set").samples == {"train real": 1}


def test_of_two_faces_the_larger_is_taken_or_both(tmp_path: Path) -> None:
    (tmp_path / "src/real").mkdir(parents=True)
    picture = photograph()
    small = cv2.resize(picture, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    both = np.full((448, 448 + 316, 3), 120, np.uint8)
    both[:, :448] = picture
    both[: small.shape[0], 448 : 448 + small.shape[1]] = small
    write_video(tmp_path / "src/real/two.mp4", [both[:, : both.shape[1] // 2 * 2]] * 12)
    run(tmp_path / "src", tmp_path / "main", count=2)
    run(tmp_path / "src", tmp_path / "all", count=2, faces="all")
    assert [PreparedSet(tmp_path / "main")[i].box[0] < 448 for i in range(2)] == [True, True]
    assert len(PreparedSet(tmp_path / "all")) == 4


@pytest.mark.parametrize(
    ("options", "total", "frames"),
    [
        ({"count": 4}, 100, [12, 37, 62, 87]),
        ({"count": 4}, 3, [0, 1, 2]),
        ({"stride": 30}, 100, [0, 30, 60, 90]),
        ({"runs": (2, 3)}, 10, [0, 1, 2, 7, 8, 9]),
        ({"runs": (4, 3)}, 7, [0, 1, 2, 4, 5, 6]),
        ({"runs": (1, 3)}, 7, [2, 3, 4]),
        ({"runs": (2, 30)}, 20, []),
    ],
)
def test_frames_are_spread_over_the_video(options: dict, total: int, frames: list[int]) -> None:
    assert sorted(plan_frames(PrepareSettings.model_validate(options), total).runs) == frames


def test_methods_compressions_and_numbers_choose_items(tmp_path: Path) -> None:
    root = faceforensics(tmp_path)
    touch(root, ["original_sequences/youtube/c40/videos/000.mp4"])
    found, _ = index("auto", str(root), PrepareSettings())
    assert len(choose(found.items, ["real"], ["c40"])) == 1
    assert len(choose(found.items, ["Deepfakes", "FaceSwap"])) == 16
    assert len(choose(found.items, limit=5)) == 5
    with pytest.raises(PrepareError, match="has no c41: there are c23, c40"):
        choose(found.items, compressions=["c41"])


def test_a_video_that_is_gone_is_a_failure_of_its_own(videos: Path, tmp_path: Path) -> None:
    root = tmp_path / "src"
    shutil.copytree(videos, root)
    settings = PrepareSettings(count=2, size=96, detector="hog")
    found, _ = index("auto", str(root), settings)
    (root / "real/a.mp4").unlink()
    summary = prepare(found, found.items, str(tmp_path / "set"), settings, local=True)
    assert summary.failures == {"missing": 1, "unsupported": 1} and summary.outcomes["done"] == 3


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="count and stride exclude each other"):
        PrepareSettings(count=3, stride=2)
    with pytest.raises(ValueError, match="did you mean 'margin'"):
        PrepareSettings.model_validate({"margins": 2})
    assert PrepareSettings().count == 32 and PrepareSettings(stride=5).count is None
