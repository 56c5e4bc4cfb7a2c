"""Pairs of every family for any detector of face crops, from a pack and from a prepared set."""

from pathlib import Path

import numpy as np
import pytest
from portraits import make_videos
from pydantic import ValidationError
from training_media import make_pack

from detectors.registry import create
from preprocessing.blending import families
from preprocessing.crops import face_input
from preprocessing.inputs import FaceInput
from train.faces import FacePack
from train.images import FamilyPairs, Settings, build
from train.loop import collate
from train.prepare import PreparedSet, PrepareSettings
from train.prepare.run import index, prepare
from train.real_faces import PackedFaces
from train.recipe import Recipe, RecipeError

SPEC = FaceInput(96, 1.5)
PLAIN = {"post": False, "degrade": False, "margin_jitter": 0.0, "shift_jitter": 0.0, "flip": 0.0}


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pack(tmp_path_factory.mktemp("pack") / "faces.npz", 12)


@pytest.fixture(scope="module")
def faces(pack: Path) -> PackedFaces:
    return PackedFaces(FacePack.load(pack))


def pairs(faces: PackedFaces, seed: int = 1, **settings: object) -> FamilyPairs:
    return FamilyPairs(faces, np.arange(len(faces)), SPEC, Settings.model_validate(settings), seed)


def recipe(detector: str = "mesonet", **settings: object) -> Recipe:
    data = {"kind": "images", "settings": settings}
    return Recipe.model_validate({"name": "t", "detector": detector, "data": data, "epochs": 1, "batch": 2})


@pytest.mark.parametrize("family", families())
def test_every_family_gives_pairs_with_masks(faces: PackedFaces, family: str) -> None:
    data = pairs(faces, families={family: 1.0})
    items = [data[number] for number in range(4)]
    for number, item in enumerate(items):
        assert item["inputs"].shape == (2, 96, 96, 3) and item["inputs"].dtype == np.uint8
        assert item["label"].tolist() == [0, 1] and item["source"].tolist() == [number, number]
        real, fake = item["mask"]
        assert item["mask"].dtype == np.float32 and not real.any() and 0 < fake.max() <= 1
    assert max(np.abs(np.diff(item["inputs"].astype(int), axis=0)).max() for item in items) > 10


@pytest.mark.parametrize("family", ["sbi", "bi", "mouth"])
def test_real_and_fake_differ_where_the_mask_says_and_nowhere_else(faces: PackedFaces, family: str) -> None:
    """The mask goes through the geometry of the pictures, so targets lie where the blend is."""
    data = pairs(faces, families={family: 1.0}, **PLAIN)
    inside = outside = 0.0
    for number in range(6):
        item = data[number]
        changed = np.abs(np.diff(item["inputs"].astype(int), axis=0)[0]).max(axis=2)
        outside = max(outside, float(changed[item["mask"][1] == 0].max(initial=0)))
        inside = max(inside, float(changed[item["mask"][1] > 0.9].max(initial=0)))
    # Interpolation may carry a level or two over the mask's edge.
    assert outside <= 3 and inside > 10


def test_items_follow_from_seed_epoch_and_index_alone(faces: PackedFaces) -> None:
    odds = {"sbi": 1.0, "bi": 1.0, "fwa": 1.0}
    one, other = pairs(faces, families=odds), pairs(faces, families=odds)
    one.epoch = other.epoch = 3
    backwards = [other[number] for number in reversed(range(6))][::-1]
    for number, item in enumerate(backwards):
        again = one[number]
        assert all(np.array_equal(again[key], item[key]) for key in item)
    one.epoch = 4
    assert not np.array_equal(one[0]["inputs"], backwards[0]["inputs"])
    changed = pairs(faces, seed=2, families=odds)
    changed.epoch = 3
    assert not np.array_equal(changed[0]["inputs"], backwards[0]["inputs"])


def test_without_changes_a_real_is_the_crop_that_analysis_makes(faces: PackedFaces) -> None:
    """FWA leaves the real as it is."""
    data = pairs(faces, families={"fwa": 1.0}, **PLAIN)
    image, points = faces.face(0)
    assert np.array_equal(data[0]["inputs"][0], face_input(image, (0, 0), points[:68], SPEC))


def test_families_held_out_are_never_drawn() -> None:
    settings = Settings(families={"sbi": 1.0, "bi": 2.0, "fwa": 0.5}, hold_out=("bi",))
    assert settings.mixture.odds == {"sbi": 1.0, "fwa": 0.5} and not settings.mixture.needs_partner


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"families": {"sbii": 1}}, "did you mean 'sbi'"),
        ({"families": {"sbi": 1}, "hold_out": ["sbi"]}, "not held out"),
        ({"families": {"sbi": 1}, "hold_out": ["mout"]}, "did you mean 'mouth'"),
        ({"families": {"sbi": -1, "fwa": 2}}, "at least 0"),
        ({"degrad": True}, "did you mean 'degrade'"),
    ],
)
def test_mistakes_in_settings_name_the_way_out(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Settings.model_validate(settings)


def test_partners_are_other_people_of_the_same_side(faces: PackedFaces) -> None:
    rows = np.array([1, 4, 6, 9])
    data = FamilyPairs(faces, rows, SPEC, Settings(families={"bi": 1.0}), 1)
    assert data.partners is not None and len(data.partners) == 4
    for place in range(4):
        near = data.partners.neighbours[place]
        assert sorted(near[near >= 0].tolist()) == sorted({0, 1, 2, 3} - {place})
    with pytest.raises(RecipeError, match="hold it out"):
        FamilyPairs(faces, np.array([3]), SPEC, Settings(families={"bi": 1.0}), 1)


@pytest.mark.parametrize("name", ["face_xray", "laa_net"])
def test_masks_become_the_detectors_own_targets(faces: PackedFaces, name: str) -> None:
    detector = create(name)
    assert isinstance(detector.input, FaceInput)
    data = FamilyPairs(faces, np.arange(4), detector.input, Settings(), 1)
    _, truth = collate([data[0], data[1]], detector.targets)
    assert truth.maps and truth.source is not None and truth.source.tolist() == [0, 0, 1, 1]
    first = next(iter(truth.maps.values()))
    assert not bool(first[0].any()) and bool(first[1].any())


def test_build_splits_by_person_and_refuses_other_inputs(pack: Path, tmp_path: Path) -> None:
    chosen = recipe(held_out=0.4)
    splits = build(Settings(held_out=0.4), chosen, create("mesonet"), pack)
    assert len(splits.train) + len(splits.validation) == 12 and len(splits.validation) > 0
    assert splits.train[0]["inputs"].shape == (2, 256, 256, 3)
    assert splits.summary["families"] == {"sbi": 1.0} and splits.summary["train_sources"] == len(splits.train)
    with pytest.raises(RecipeError, match="takes ClipInput"):
        build(Settings(), recipe("c3d"), create("c3d"), pack)
    with pytest.raises(RecipeError, match="--data DIR"):
        build(Settings(pack=tmp_path / "none.npz"), chosen, create("mesonet"), None)
    with pytest.raises(RecipeError, match="prepared set with fakes"):
        build(Settings(own_fakes=0.5), chosen, create("mesonet"), pack)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos of people a and b: those of a to train on, those of b to validate on."""
    folder = tmp_path_factory.mktemp("prepared")
    videos = make_videos(folder / "videos")
    lines = ["path,label,split,identities,source"]
    for name, split in (("a", "train"), ("b", "val")):
        lines += [f"real/{name}.mp4,real,{split},{name},", f"fake/{name}.mp4,fake,{split},{name},real/{name}.mp4"]
    (videos / "MANIFEST.csv").write_text("\n".join(lines))
    settings = PrepareSettings(count=3, size=160, detector="hog")
    found, notes = index("manifest", str(videos), settings)
    prepare(found, found.items, str(folder / "set"), settings, local=True, notes=notes)
    return folder / "set"


def test_a_prepared_set_gives_pairs_of_its_real_faces(prepared: Path) -> None:
    assert len(PreparedSet(prepared)) == 12
    splits = build(Settings(), recipe(), create("mesonet"), prepared)
    assert len(splits.train) == len(splits.validation) == 3
    item = splits.train[0]
    assert item["inputs"].shape == (2, 256, 256, 3) and item["mask"][1].max() > 0.5
    with pytest.raises(RecipeError, match="larger --margin"):
        build(
            Settings(),
            recipe(),
            create("mesonet", config=create("mesonet").config.model_copy(update={"margin": 2.5})),
            prepared,
        )


def test_a_prepared_sets_own_fakes_take_the_fakes_place(prepared: Path) -> None:
    plain = Settings.model_validate({"own_fakes": 1.0, **PLAIN})
    splits = build(plain, recipe(), create("mesonet"), prepared)
    item = splits.train[0]
    assert "mask" not in item and splits.summary["train_own_fakes"] == 3
    data = PreparedSet(prepared).select(split="train", label=1)
    crops = [
        face_input(s.image, (0, 0), s.in_crop(s.landmarks), create("mesonet").input)  # type: ignore[arg-type]
        for s in (data[number] for number in range(3))
    ]
    assert any(np.array_equal(item["inputs"][1], crop) for crop in crops)
    with pytest.raises(RecipeError, match="learns from blending masks"):
        build(plain, recipe("face_xray"), create("face_xray"), prepared)


def test_sets_without_a_split_or_none_at_all_are_named(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is no prepared set"):
        build(Settings(prepared=str(tmp_path)), recipe(), create("mesonet"), None)


def test_an_h264_key_frame_changes_real_and_fake_alike_and_no_other_draw(faces: PackedFaces) -> None:
    """The encoder comes last: with odds of 0 and of 1 the same pair is made, once without and once with its marks."""
    rows = np.arange(len(faces))
    plain, coded = (
        FamilyPairs(faces, rows, SPEC, Settings(families={"sbi": 1}, h264=odds, crfs=(35, 35)), seed=3)[0]
        for odds in (0, 1)
    )
    change = np.abs(plain["inputs"].astype(int) - coded["inputs"]).mean(axis=(1, 2, 3))
    assert (change > 0.5).all() and (change < 20).all()
    assert np.array_equal(plain["mask"], coded["mask"])
