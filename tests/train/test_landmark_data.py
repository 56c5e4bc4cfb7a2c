"""Landmark sequences to train LRNet on: real pictures, a real codec, dlib's landmarks and the real calibration."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
from collections.abc import Sequence
from fractions import Fraction
from itertools import zip_longest
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage.data import astronaut

from detectors.local import LocalStages
from detectors.pipeline import track_faces
from detectors.registry import create
from detectors.store import SHIPPED
from preprocessing.landmarks import FLIP_ORDER
from preprocessing.media import open_media
from preprocessing.settings import Settings as ScanSettings
from preprocessing.types import Image
from train.__main__ import main as train_main
from train.labelled import Item
from train.landmark_data import VALIDATION, FaceReader, Video, View, generate, held_out, main, through_h264
from train.landmark_dataset import Settings, augment, build, transplanted
from train.landmark_fakes import FaceSequence, Manipulation, manipulate
from train.leaks import LeakError
from train.loop import train
from train.recipe import DataRecipe, Recipe, RecipeError, create_detector

FRAMES = 48


def swaying(count: int = FRAMES, amplitude: float = 4) -> list[Image]:
    """The astronaut's head and shoulders, moved smoothly."""
    face = np.ascontiguousarray(astronaut()[:320, 60:380])
    moved = []
    for t in range(count):
        shift = amplitude * np.sin(2 * np.pi * t / 40)
        matrix = np.array([[1, 0, shift], [0, 1, shift / 2]])
        moved.append(cv2.warpAffine(face, matrix, (320, 320), borderMode=cv2.BORDER_REPLICATE))
    return moved


def write(path: Path, images: list[Image]) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25), options={"crf": "14", "preset": "ultrafast"})
        stream.height, stream.width = images[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def reader() -> FaceReader:
    return FaceReader()


@pytest.fixture(scope="module")
def scene(reader: FaceReader) -> FaceSequence:
    from preprocessing.types import Frame

    images = swaying()
    track = reader.track([Frame(i, i / 25, image) for i, image in enumerate(images)])
    assert track is not None and len(track) == FRAMES
    return FaceSequence(images, track.landmarks)


def how(**changes: object) -> Manipulation:
    plain = Manipulation.draw(np.random.default_rng(3), others=False)
    values = {
        "source": "self",
        "region": "hull",
        "side": None,
        "ratio": 1.0,
        "memory": 0.0,
        "offset": 0.0,
        "follow": 1.0,
    }
    return dataclasses.replace(plain, **{**values, **changes})  # type: ignore[arg-type]


def jitter(rows: NDArray[np.int16]) -> float:
    """Mean absolute second difference over time, whole-face motion taken out, pixels of the 400 x 400 square."""
    bent = np.diff(rows.reshape(-1, 68, 2).astype(float), n=2, axis=0)
    return float(np.abs(bent - bent.mean(axis=1, keepdims=True)).mean())


def test_a_manipulated_face_jitters_and_more_so_the_larger_the_error(reader: FaceReader, scene: FaceSequence) -> None:
    real = reader.rows(scene.images, 25)
    faint, plain = (
        reader.rows(manipulate(scene, how(shift=s, turn=s, stretch=s, shape=s)), 25) for s in (0.002, 0.008)
    )
    assert real is not None and faint is not None and plain is not None
    assert jitter(real) < jitter(faint) < jitter(plain)
    assert jitter(plain) > 1.5 * jitter(real)


@pytest.mark.parametrize("source", ["self", "neighbour", "other"])
@pytest.mark.parametrize("region", ["hull", "lips"])
def test_only_the_face_is_changed_and_the_same_draw_gives_the_same_pictures(
    scene: FaceSequence, source: str, region: str
) -> None:
    short = FaceSequence(scene.images[:5], scene.landmarks[:5])
    other = FaceSequence([cv2.flip(i, 0)[::-1] for i in scene.images[20:25]], scene.landmarks[20:25])
    drawn = how(source=source, region=region, shape=0.01)
    first, again = (list(manipulate(short, drawn, other)) for _ in range(2))
    for before, after, repeated, points in zip(short.images, first, again, short.landmarks, strict=True):
        assert (after == repeated).all()
        changed = np.argwhere((after != before).any(axis=2))[:, ::-1]
        size = np.ptp(points, axis=0).max()
        assert len(changed)
        assert (changed >= points.min(axis=0) - 0.4 * size).all() and (changed <= points.max(axis=0) + 0.4 * size).all()


def test_another_person_is_asked_for_where_one_is_shown(scene: FaceSequence) -> None:
    with pytest.raises(ValueError, match="another person"):
        next(manipulate(scene, how(source="other")))


def test_rows_equal_those_of_an_analysis_of_the_same_file(tmp_path: Path, reader: FaceReader) -> None:
    path = tmp_path / "swaying.mp4"
    write(path, swaying(amplitude=12))
    with open_media(path) as media:
        rows = reader.rows([frame.image for frame in media], 25)
    stages, settings = LocalStages(loaded={}), ScanSettings()

    async def analysed() -> dict[int, NDArray[np.float32]]:
        tracked = await track_faces(path, stages, settings, [], lambda stage, share: None)
        return await stages.calibrate(path, settings.limits, tracked.tracks)

    (wanted,) = asyncio.run(analysed()).values()
    assert rows is not None
    assert (rows == np.rint(wanted * 200 + 200)).all()


def test_the_declared_input_is_what_the_sequences_are_made_with(reader: FaceReader) -> None:
    spec = create("lrnet", "compact").input
    assert (spec.extractor, spec.box_every, spec.calibrated) == (  # type: ignore[union-attr]
        reader.extractor,
        reader.settings.box_every,
        True,
    )


def test_the_codec_keeps_size_and_count_and_loses_more_at_a_lower_quality() -> None:
    images = swaying(6)
    losses = []
    for crf in (14, 36):
        coded = through_h264(images, 29.97, crf)
        assert [image.shape for image in coded] == [image.shape for image in images]
        losses.append(np.mean([np.abs(a.astype(int) - b).mean() for a, b in zip(images, coded, strict=True)]))
    assert 0 < losses[0] < 3 and losses[1] > 1.5 * losses[0]


@given(st.integers(0, 2**31))
def test_a_view_lies_in_its_video_and_keeps_the_face(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = rng.uniform((200, 150), (300, 260), (68, 2))
    points = (shape + rng.uniform(-50, 50, (rng.integers(31, 400), 1, 2))).astype(np.float32)
    video = Video(Path("a.mp4"), 25.0, 0, 1.0, (480, 360), points)
    view = View.draw(rng, video)
    x, y, width, height = view.window
    assert view.start >= 0 and view.stop <= len(points) and (view.stop - view.start) // view.step >= 31
    assert x >= 0 and y >= 0 and x + width <= 480 and y + height <= 360
    seen = points[view.start : view.stop]
    assert (seen >= (x - 1, y - 1)).all() and (seen <= (x + width + 1, y + height + 1)).all()


@given(st.integers(0, 2**31))
def test_a_clip_and_its_fake_are_changed_alike_and_stay_on_whole_pixels(seed: int) -> None:
    rows = np.random.default_rng(seed).integers(0, 400, (30, 136)).astype(np.int16)
    first, second = augment(np.stack([rows, rows]), np.random.default_rng(seed), Settings())
    assert (first == second).all()
    assert np.allclose(first * 200, np.rint(first * 200), atol=1e-3)


def test_a_mirrored_clip_keeps_each_landmark_on_its_side() -> None:
    rows = np.tile(np.arange(136, dtype=np.int16) * 2, (30, 1))
    still = Settings(stretch=0, shift=0, turn=0, reverse=0)
    both = {(augment(rows[None], np.random.default_rng(s), still) + 0.0).tobytes() for s in range(12)}
    plain = ((rows - 200) / 200).astype(np.float32)
    points = plain.reshape(30, 68, 2)[:, FLIP_ORDER[:68]] * np.array([-1, 1], np.float32)
    # Minus zero becomes zero.
    assert both == {(found + 0.0).reshape(1, 30, 136).tobytes() for found in (plain, points)}


@given(st.integers(0, 2**31))
def test_transplanted_jitter_moves_the_points_but_not_the_face(seed: int) -> None:
    rng = np.random.default_rng(seed)
    real = rng.integers(100, 300, (30, 136)).astype(np.int16)
    jitter = rng.normal(5, 3, (30, 136))
    fake = transplanted(real, jitter, rng)
    assert 0 < np.abs(fake - real).mean() < 1.4 * 3
    assert np.abs((fake - real).mean(axis=0)).max() < 0.5, "a constant offset would give the manipulated face away"


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short videos, two of them held out, made into sequences by the command's function."""
    root = tmp_path_factory.mktemp("landmarks")
    rows = ["path,label,kind,split"]
    for name, images in (("a", swaying(32)), ("b", swaying(32, 6)), ("c", swaying(32, 8)), ("d", swaying(32, 10))):
        write(root / f"{name}.mp4", images)
        rows.append(f"{name}.mp4,real,video,train")
    (root / "manifest.csv").write_text("\n".join(rows))
    out = root / "sequences"
    made = list(generate(root, out, range(1), 1, 1))
    assert [file.name for file, _, _ in made] == ["a-00.npz", "b-00.npz", "c-00.npz", "d-00.npz"]
    assert all(set(counts) == {"real", "fake0"} for _, counts, _ in made)
    assert list(generate(root, out, range(1), 1, 1)) == [], "what is there is not made again"
    return out


def videos(*names: str, people: Sequence[str] = ()) -> list[Item]:
    return [Item(Path(f"{n}.mp4"), 0, identity=p) for n, p in zip_longest(names, people, fillvalue="")]


def test_a_tenth_of_the_people_is_held_out_and_adding_some_moves_nobody() -> None:
    names = [f"v{n}x" for n in range(300)]
    held = held_out(videos(*names), 1)
    assert 15 <= len(held) <= 50 and held == held_out(videos(*reversed(names)), 1) != held_out(videos(*names), 2)
    assert held_out(videos(*names[:200]), 1) == held & set(names[:200])


def test_all_videos_of_a_person_are_on_one_side() -> None:
    people = [f"p{n}" for n in range(6)] * 4
    items = videos(*(f"v{n}x" for n in range(24)), people=people)
    held = held_out(items, 1)
    sides = {(item.identity, item.path.stem in held) for item in items}
    assert len(sides) == 6 and 2 <= sum(out for _, out in sides) < 6
    for seed in range(8):
        held = held_out(videos("Alex_1", "Alex_2", "Bo", "Cy", "Di"), seed)
        assert ("Alex_1" in held) == ("Alex_2" in held), "by the file's name, where nobody says whose it is"


def test_the_data_of_the_shipped_weights_is_split_as_it_was() -> None:
    names = ["another", *VALIDATION]
    assert held_out(videos(*names), 1) == set(VALIDATION)


def test_too_few_people_and_missing_videos_end_with_a_sentence_and_code_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--out", str(tmp_path / "out")]
    (tmp_path / "manifest.csv").write_text("path,label,split\na.mp4,real,train\nb.mp4,real,train\n")
    (tmp_path / "a.mp4").write_bytes(b"no video")
    assert main(["--data", str(tmp_path), *out]) == 2
    assert "2 videos of 2 people are too few to hold some out" in capsys.readouterr().err
    with (tmp_path / "manifest.csv").open("a") as file:
        file.write("c.mp4,real,train\nd.mp4,real,train\n")
    assert main(["--data", str(tmp_path), *out]) == 2
    assert f"{tmp_path}/a.mp4: " in capsys.readouterr().err
    assert main(["--data", str(tmp_path / "nowhere"), *out]) == 2
    told = capsys.readouterr().err
    assert "nowhere: no labelled media found" in told and told.count("\n") == 1


def recipe(**changes: object) -> Recipe:
    values = {
        "name": "trial",
        "detector": "lrnet",
        "data": DataRecipe(kind="landmark_dataset"),
        "epochs": 2,
        "batch": 4,
    }
    return Recipe.model_validate({**values, **changes})


def test_sequences_train_the_detector_and_their_people_stay_apart(sequences: Path, tmp_path: Path) -> None:
    detector = create("lrnet", "compact")
    splits = build(Settings(), recipe(), detector, sequences)
    views = splits.summary["views"]
    assert sorted([*views["train"], *views["validation"]]) == ["a", "b", "c", "d"] and len(views["validation"]) == 2
    item = splits.train[0]
    assert item["inputs"].shape == (2, 30, 136) and item["label"].tolist() == [0, 1]
    assert [splits.validation[i]["label"].tolist() for i in range(4)] == [[0], [1], [0], [1]]
    with np.load(sequences / f"{next(iter(views['validation']))}-00.npz") as stored:
        assert np.allclose(splits.validation[0]["inputs"][0] * 200 + 200, stored["real"][:30], atol=1e-3)
    result = train(detector, splits, recipe(), tmp_path / "run")
    assert len(result.history) == 2 and np.isfinite(result.history[-1].val_loss)


def changed(sequences: Path, out: Path, name: str, **made: object) -> None:
    """A copy of one view with other facts."""
    with np.load(sequences / f"{name}-00.npz") as stored:
        facts = {**json.loads(str(stored["made"])), **made}
        np.savez(out / f"{name}-01.npz", real=stored["real"], fake0=stored["fake0"], made=json.dumps(facts))


@pytest.mark.parametrize("shows", ["its own face", "another's in a fake"])
def test_a_face_on_both_sides_is_a_leak(sequences: Path, tmp_path: Path, shows: str) -> None:
    shutil.copytree(sequences, tmp_path / "copy")
    sides = build(Settings(), recipe(), create("lrnet", "compact"), sequences).summary["views"]
    (taught, _), (judged, _) = sides["train"], sides["validation"]
    own = shows == "its own face"
    changed(sequences, tmp_path / "copy", judged, **({"split": "train"} if own else {"fake0": {"giver": taught}}))
    named = judged if own else taught
    with pytest.raises(LeakError, match=f"source {named}: .*with one python -m train.landmark_data"):
        build(Settings(), recipe(), create("lrnet", "compact"), tmp_path / "copy")
    allowed = build(Settings(allow_leaks=True), recipe(), create("lrnet", "compact"), tmp_path / "copy")
    assert allowed.summary["leaks"]["allowed"] == 1


def test_the_commands_switch_for_leaks_is_known_here_too(sequences: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_main(["lrnet-compact", "--data", str(sequences), "--allow-leaks", "--dry-run"]) == 0
    assert "allow_leaks: true" in capsys.readouterr().out


def test_sequences_without_a_side_to_validate_on_say_so(sequences: Path, tmp_path: Path) -> None:
    shutil.copy(sequences / "a-00.npz", tmp_path)
    with pytest.raises(RecipeError, match="make sequences of more people's videos"):
        build(Settings(), recipe(), create("lrnet", "compact"), tmp_path)


def test_only_weights_that_were_never_trained_are_widened(sequences: Path) -> None:
    started = recipe(backbone=str(SHIPPED / "lrnet-compact.safetensors"))
    detector, trained = create_detector(started), create_detector(started)
    build(Settings(), started, detector, sequences)
    for name, weight in detector.g2.state_dict().items():
        assert torch.equal(weight, trained.g2.state_dict()[name])
    build(Settings(), recipe(), detector, sequences)
    for name, weight in detector.g2.state_dict().items():
        assert torch.equal(weight, trained.g2.state_dict()[name] * (50 if "weight_ih" in name else 1))


def test_half_a_file_of_sequences_is_named(sequences: Path, tmp_path: Path) -> None:
    for content in ((sequences / "a-00.npz").read_bytes()[:2000], b"", b"words"):
        (tmp_path / "a-00.npz").write_bytes(content)
        with pytest.raises(RecipeError, match=r"a-00\.npz holds no landmark sequences .* or not all of them"):
            build(Settings(), recipe(), create("lrnet", "compact"), tmp_path)


def test_sequences_of_another_extractor_are_refused(sequences: Path, tmp_path: Path) -> None:
    with np.load(sequences / "a-00.npz") as stored:
        made = {**json.loads(str(stored["made"])), "extractor": "openface"}
        np.savez(tmp_path / "a-00.npz", real=stored["real"], fake0=stored["fake0"], made=json.dumps(made))
    with pytest.raises(RecipeError, match="extractor openface"):
        build(Settings(), recipe(), create("lrnet", "compact"), tmp_path)


def test_a_folder_without_sequences_says_how_they_are_made(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"python -m train\.landmark_data"):
        build(Settings(), recipe(), create("lrnet", "compact"), tmp_path)
