"""Clips blended frame by frame: their masks, their jitter, and videos written from them."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from astronaut import with_heads
from hypothesis import given, settings
from hypothesis import strategies as st
from test_blending import face_points, picture
from test_swap import speaking, still

from preprocessing.blending import BlendError, sample_rng
from preprocessing.blending.clips import CLIP_FAMILIES, FaceClip, FakeClip, Jitter, blend_stream, curve, remeasure
from preprocessing.blending.swap_video import NoFace, TrackedFace, load_face, write_fake_video
from preprocessing.landmarks import create_landmark_predictor, to_81
from preprocessing.media import open_media
from preprocessing.samples import write_video
from preprocessing.types import Image


def made(family: str, clip: FaceClip, seed: int = 0) -> FakeClip:
    return blend_stream(clip, family, sample_rng(seed, 0, 0)).clip()


@pytest.mark.parametrize("family", CLIP_FAMILIES)
@given(seed=st.integers(0, 2**31))
@settings(max_examples=5, deadline=None)
def test_a_mask_is_never_empty_and_nothing_outside_it_changes(family: str, seed: int) -> None:
    clip = speaking(3)
    frames, masks = made(family, clip, seed).arrays()
    before = np.stack(list(clip.frames))
    assert frames.shape == before.shape and frames.dtype == np.uint8
    assert masks.shape == before.shape[:3] and masks.dtype == np.float32
    assert masks.min() >= 0 and masks.max() <= 1
    assert (masks.sum(axis=(1, 2)) > 16).all()
    assert (frames == before)[masks == 0].all()
    assert (frames != before).any(axis=(1, 2, 3)).all()


@pytest.mark.parametrize("family", CLIP_FAMILIES)
def test_a_seed_gives_the_same_bytes_and_another_seed_others(family: str) -> None:
    clip = speaking(2)
    first, again, other = made(family, clip, 1), made(family, clip, 1), made(family, clip, 2)
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.masks, again.masks)
    assert not np.array_equal(first.frames, other.frames)


@pytest.mark.parametrize("jitter", ["jitter", "smooth"])
def test_a_curve_has_zero_mean_and_unit_variance(jitter: Jitter) -> None:
    values = curve(np.random.default_rng(0), 4000, 3, jitter)
    assert values.shape == (4000, 3)
    assert np.abs(values.mean(axis=0)).max() < 0.25
    assert np.abs(values.std(axis=0) - 1).max() < 0.12


def test_jitter_jumps_from_frame_to_frame_and_smooth_drifts() -> None:
    """The still face's fake differs from frame to frame: by far more when each frame is drawn for itself."""
    clip = FaceClip([picture()] * 10, np.repeat(face_points()[None], 10, axis=0))

    def unrest(family: str) -> float:
        steps = [np.abs(np.diff(made(family, clip, s).arrays()[0].astype(int), axis=0)).mean() for s in range(4)]
        return float(np.mean(steps))

    for part in ("face", "mouth", "eyes"):
        assert unrest(f"clip_{part}_jitter") > 2 * unrest(f"clip_{part}_smooth") > 0, part


def test_local_families_stay_where_their_name_says() -> None:
    clip = speaking(3)
    for points, mouth, eyes in zip(
        clip.landmarks, made("clip_mouth_jitter", clip).masks, made("clip_eyes_smooth", clip).masks, strict=True
    ):
        assert not mouth[: int(points[36:48, 1].max())].any()
        assert not eyes[int(points[48:60, 1].min()) :].any()


def test_landmarks_are_passed_on_and_81_points_serve_as_well() -> None:
    clip = speaking(2)
    with_forehead = FaceClip(clip.frames, to_81(clip.landmarks))
    fake = made("clip_face_jitter", with_forehead)
    assert fake.landmarks.shape == (2, 81, 2)
    assert np.array_equal(fake.landmarks, with_forehead.landmarks)
    assert fake.landmarks is not with_forehead.landmarks


def test_bad_clips_are_named_with_their_frame() -> None:
    clip = speaking(3)
    outside = clip.landmarks.copy()
    outside[1] += 5000
    with pytest.raises(BlendError, match=r"frame 1: .*outside"):
        FaceClip(clip.frames, outside)
    with pytest.raises(BlendError, match="3 pictures with landmarks for 2"):
        FaceClip(clip.frames, clip.landmarks[:2])
    with pytest.raises(BlendError, match="clip_mouth_jitter"):
        blend_stream(clip, "clip", np.random.default_rng(0))


# --- videos


def moving(count: int = 14) -> list[Image]:
    """The portrait moving to the right, with odd sides."""
    return [with_heads([(100 + 2 * index, 60 + index, 240)], 481, 361) for index in range(count)]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frames = [cv2.copyMakeBorder(frame, 0, 1, 0, 1, cv2.BORDER_REPLICATE) for frame in moving()]
    return write_video(tmp_path_factory.mktemp("video") / "real.mp4", frames, quality=12)


@pytest.fixture(scope="module")
def face(video: Path) -> TrackedFace:
    return load_face(video)


def read(path: Path) -> tuple[list[Image], list[float]]:
    with open_media(path) as media:
        frames = list(media)
    return [frame.image for frame in frames], [frame.time for frame in frames]


def test_the_face_of_a_video_is_found_in_every_frame(video: Path, face: TrackedFace) -> None:
    assert len(face.clip) == 14 and face.complete
    assert face.clip.landmarks.shape == (14, 81, 2)
    centres = (face.clip.landmarks[:, :68].mean(axis=1) + face.offsets)[[0, -1]]
    assert np.allclose(centres[1] - centres[0], (26, 13), atol=4)
    cut = load_face(video, frames=5)
    assert len(cut.clip) == 5 and not cut.complete


def test_landmarks_measured_again_on_the_real_frames_are_those_that_were_found(face: TrackedFace) -> None:
    again = remeasure(face.clip.frames, face.boxes, create_landmark_predictor())  # type: ignore[arg-type]
    assert np.abs(again - face.clip.landmarks[:, :68]).max() < 0.01


def test_a_fake_video_has_the_times_of_the_real_one_and_its_masks_are_exact(
    video: Path, face: TrackedFace, tmp_path: Path
) -> None:
    paths = {name: tmp_path / f"{name}.mp4" for name in ("fake", "masks", "xrays", "reals")}
    fake = write_fake_video(
        video, paths["fake"], "clip_face_jitter", sample_rng(0, 0, 0), target=face,
        masks=paths["masks"], xrays=paths["xrays"], reals=paths["reals"],
    )  # fmt: skip
    frames, times = read(paths["fake"])
    real, real_times = read(video)
    assert np.allclose(times, real_times, atol=1e-4)
    masks = read(paths["masks"])[0]
    wanted = fake.clip().masks
    for index in (0, 7, 13):
        x, y = face.offsets[index]
        whole = np.zeros(real[0].shape[:2], np.uint8)
        height, width = wanted[index].shape
        whole[y : y + height, x : x + width] = np.rint(wanted[index] * 255)
        assert np.array_equal(masks[index][..., 0], whole)
        far = whole == 0
        # Outside the mask the frame is the real one, but for the encoder; the encoded real is as near.
        assert np.abs(frames[index].astype(int) - real[index])[far].mean() < 2
    assert np.abs(read(paths["reals"])[0][3].astype(int) - real[3]).mean() < 2
    xray = read(paths["xrays"])[0][0][..., 0]
    # A weight that rounds to no level can still round to two of the X-ray's, which is four times as steep there.
    assert xray.max() > 250 and xray[masks[0][..., 0] == 0].max() <= 2
    assert [path.name for path in tmp_path.iterdir()].count("fake.mp4") == 1 and len(list(tmp_path.iterdir())) == 4


def test_masks_can_be_a_folder_of_pictures_named_by_frame(video: Path, face: TrackedFace, tmp_path: Path) -> None:
    write_fake_video(
        video, tmp_path / "fake.mp4", "swap_poisson", sample_rng(0, 0, 0), target=face, donor=still(),
        masks=tmp_path / "masks",
    )  # fmt: skip
    names = sorted(path.name for path in (tmp_path / "masks").iterdir())
    assert names[0] == "000000.png" and len(names) == 14
    mask = cv2.imread(str(tmp_path / "masks" / names[5]), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (362, 482) and mask.dtype == np.uint8 and mask.max() == 255


def test_the_same_seed_writes_the_same_video(video: Path, face: TrackedFace, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_fake_video(video, tmp_path / f"{name}.mp4", "reenact_mouth", sample_rng(4, 0, 0), target=face)
    assert (tmp_path / "one.mp4").read_bytes() == (tmp_path / "two.mp4").read_bytes()
    with av.open(str(tmp_path / "one.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"


def test_a_video_without_a_face_is_said_to_have_none(tmp_path: Path) -> None:
    path = write_video(tmp_path / "wall.mp4", [with_heads([], 160, 120)] * 6)
    with pytest.raises(NoFace, match="no face was found"):
        load_face(path)


def test_a_frame_that_fails_leaves_no_file(video: Path, face: TrackedFace, tmp_path: Path) -> None:
    with pytest.raises(BlendError, match="give a donor"):
        write_fake_video(video, tmp_path / "fake.mp4", "swap_affine", sample_rng(0, 0, 0), target=face)
    with pytest.raises(ValueError, match="cannot write"):
        write_fake_video(video, tmp_path / "no" / "fake.mp4", "clip_eyes_smooth", sample_rng(0, 0, 0), target=face)
    assert list(tmp_path.iterdir()) == []
