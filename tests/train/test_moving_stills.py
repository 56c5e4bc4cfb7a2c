"""A still under a moving camera: a clip whose landmarks stay on the face."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut
from training_media import make_clip_pack, make_pack

from preprocessing.samples import landmarks
from train.clips import Settings, build
from train.moving_stills import Stills, moving_still
from train.real_faces import PackedFaces
from train.recipe import RecipeError, create_detector, load_recipe


def test_landmarks_move_with_the_picture() -> None:
    """A dot painted on a landmark is found where the clip says that the landmark has gone."""
    picture, points = astronaut(), landmarks(astronaut())
    x, y = points[30].round().astype(int).tolist()
    dotted = cv2.circle(picture.copy(), (x, y), 4, (0, 255, 0), -1)
    points[30] = (x, y)
    clip = moving_still(dotted, points, 20, np.random.default_rng(3))
    assert len(clip) == 20 and clip.landmarks.shape == (20, *points.shape)
    assert np.ptp(clip.landmarks[:, 30], axis=0).max() > 1, "the camera moves"
    for frame, there in zip(clip.frames, clip.landmarks, strict=True):
        green = (frame[..., 1] > 200) & (frame[..., 0] < 60) & (frame[..., 2] < 60)
        rows, columns = np.nonzero(green)
        near = np.abs(columns - there[30, 0]) + np.abs(rows - there[30, 1]) < 20
        assert np.allclose((columns[near].mean(), rows[near].mean()), there[30], atol=1)


def test_the_motion_is_smooth_and_follows_from_the_generator() -> None:
    picture, points = astronaut(), landmarks(astronaut())
    clip, again = (moving_still(picture, points, 30, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(clip.landmarks, again.landmarks) and np.array_equal(clip.frames[11], again.frames[11])
    jerks = np.abs(np.diff(clip.landmarks, n=3, axis=0)).max()
    assert jerks < np.ptp(clip.landmarks, axis=0).max() / 4


def test_a_swap_takes_another_person(tmp_path: Path) -> None:
    from train.faces import FacePack

    make_pack(tmp_path / "faces.npz", 3)
    faces = PackedFaces(FacePack.load(tmp_path / "faces.npz"))
    stills = Stills(faces, np.arange(3))
    rng = np.random.default_rng(0)
    assert "portraits/person-1" not in {stills.draw(rng, unlike="portraits/person-1")[2] for _ in range(30)}


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packs")
    make_pack(folder / "faces.npz", 24)
    make_clip_pack(folder / "clips.npz", 8, frames=20)
    return folder


def test_stills_take_the_place_of_clips_and_h264_changes_real_and_fake(packs: Path) -> None:
    chosen = ["data.settings.stills=1", f"data.settings.faces={packs / 'faces.npz'}", "data.settings.held_out=0.3"]
    recipe = load_recipe("c3d-compact", [*chosen, "data.settings.h264=1", "data.settings.crfs=[30, 30]"])
    settings = Settings.model_validate(recipe.data.settings)
    splits = build(settings, recipe, create_detector(recipe), packs / "clips.npz")
    item = splits.train[0]
    assert item["inputs"].shape == (2, 16, 112, 112, 3) and item["label"].tolist() == [0, 1]
    assert (item["inputs"][0] != item["inputs"][1]).any()
    assert splits.summary["stills"]["train"] > splits.summary["stills"]["validation"] > 0


def test_reenactments_alone_cannot_be_made_of_stills() -> None:
    with pytest.raises(ValueError, match="reenactments only"):
        Settings(stills=0.5, families={"reenact_mouth": 1.0})


def test_people_of_the_other_sides_clips_are_no_stills(packs: Path, tmp_path: Path) -> None:
    """The packs' people have the same names: where all of them validate as clips, none is left to train with."""
    make_pack(tmp_path / "few.npz", 3)
    chosen = ["data.settings.stills=1", f"data.settings.faces={tmp_path / 'few.npz'}"]
    recipe = load_recipe("c3d-compact", chosen)
    with pytest.raises(RecipeError, match="no people for stills"):
        build(Settings.model_validate(recipe.data.settings), recipe, create_detector(recipe), packs / "clips.npz")
