"""Packing real faces and making pairs of them, on a public-domain photograph that scikit-image ships."""

import hashlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage.data import astronaut
from training_media import as_another

from detectors.registry import create
from preprocessing.crops import face_square
from preprocessing.inputs import FaceInput
from preprocessing.landmarks import create_landmark_predictor
from train.faces import FacePack, FacePairs, Settings, build, main, pack_folder, person_of, split
from train.recipe import Recipe, RecipeError

SPEC = FaceInput(size=128, margin=1.5)


def write(path: Path, image: np.ndarray, quality: int = 95) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve pictures of one face as twelve people, one without a face, one that is no picture."""
    root = tmp_path_factory.mktemp("faces")
    picture = astronaut()
    for i in range(12):
        write(root / "portraits" / f"person-{'abcdefghijkl'[i]}_1.jpg", as_another(picture, i + 2, 50)[: 400 + i], 90)
    write(root / "portraits" / "rocket.jpg", picture[:120, 300:])
    (root / "portraits" / "broken.jpg").write_bytes(b"not a picture")
    return root


@pytest.fixture(scope="module")
def pack(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> FacePack:
    out = tmp_path_factory.mktemp("pack") / "faces.npz"
    pack_folder(folder, out, reserved="")
    return FacePack.load(out)


def test_each_face_is_stored_with_landmarks_in_its_own_pixels(pack: FacePack) -> None:
    assert len(pack) == 12
    image = pack.image(0)
    assert max(image.shape[:2]) <= 289
    side = face_square(pack.points[0], 1.0)[2]
    assert 1.6 < max(image.shape[:2]) / side < 2.1, "a margin crop of about twice the landmark box"
    box = np.concatenate([pack.points[0].min(0), pack.points[0].max(0)])
    again = create_landmark_predictor().predict(image, box[None])[0]
    assert np.abs(again - pack.points[0]).mean() < 0.05 * side, "the landmarks lie on the stored face"


def test_reserved_files_are_never_packed(folder: Path, tmp_path: Path) -> None:
    digests = {hashlib.sha256(p.read_bytes()).hexdigest() for p in (folder / "portraits").glob("person*")}
    first = sorted(digest[0] for digest in digests)[0]
    packed = pack_folder(folder, tmp_path / "faces.npz", reserved=first)
    assert set(packed.sha256.tolist()) == {digest for digest in digests if digest[0] != first}


def test_a_manifest_decides_what_is_real_and_for_training(folder: Path, tmp_path: Path) -> None:
    names = sorted(p.name for p in (folder / "portraits").glob("person*"))[:4]
    for number, name in enumerate(names, 2):
        write(tmp_path / "data" / name, as_another(astronaut(), number, 50))
    rows = zip(names, ("real", "fake", "real", "real"), ("train", "train", "dev", "train"), strict=True)
    lines = ["path,label,split,dataset", *(f"{n},{label},{part},set" for n, label, part in rows)]
    (tmp_path / "data" / "manifest.csv").write_text("\n".join(lines))
    packed = pack_folder(tmp_path / "data", tmp_path / "faces.npz", reserved="")
    assert packed.source.tolist() == ["set/person-a", "set/person-d"]


@pytest.mark.parametrize(
    ("name", "person"),
    [
        ("Alex_Ferguson_11_1.jpg", "Alex_Ferguson"),
        ("Charlotte_Casiraghi_02.jpg", "Charlotte_Casiraghi"),
        ("adam-smith.jpg", "adam-smith"),
        ("004800.jpg", "004800"),
        ("M003_level_1_angry_015.mp4", "M003_level_1_angry"),
    ],
)
def test_people_are_read_from_file_names(name: str, person: str) -> None:
    assert person_of("set", Path(name)) == f"set/{person}"


def many(pack: FacePack, count: int = 400) -> FacePack:
    """The same faces under more names, for statistics of splits."""
    times = np.arange(count) % len(pack)
    ends = np.diff(pack.ends, prepend=0)[times].cumsum()
    jpegs = np.concatenate([pack.jpegs[pack.ends[i] - np.diff(pack.ends, prepend=0)[i] : pack.ends[i]] for i in times])
    source = np.array([f"set/{i // 2}" for i in range(count)])
    dataset = np.array(["a" if i % 4 else "b" for i in range(count)])
    return FacePack(jpegs, ends, pack.points[times], source, dataset, pack.sha256[times])


def test_nobody_is_in_training_and_validation(pack: FacePack) -> None:
    larger = many(pack)
    train, validation = split(larger, Settings(held_out=0.2), seed=1)
    assert not set(larger.source[train]) & set(larger.source[validation])
    assert len(train) + len(validation) == len(larger)
    assert 0.1 < len(validation) / len(larger) < 0.3
    capped, few = split(larger, Settings(held_out=0.2, per_dataset=50, validation_items=20), seed=1)
    assert set(capped) < set(train) and set(few) < set(validation)
    assert sorted(np.unique(larger.dataset[capped], return_counts=True)[1].tolist()) == [50, 50]


def test_a_pair_is_a_real_and_its_fake_through_the_same_changes(pack: FacePack) -> None:
    data = FacePairs(pack, np.arange(len(pack)), SPEC, Settings(), seed=1)
    differences = []
    for index in range(len(data)):
        item = data[index]
        assert item["inputs"].shape == (2, 128, 128, 3) and item["inputs"].dtype == np.uint8
        assert item["label"].tolist() == [0, 1]
        real, fake = item["inputs"].astype(int)
        changed = np.abs(real - fake)
        differences.append(changed.max())
        # JPEG spreads a change over a block, no further: the corners of the crop stay the real's.
        assert changed[:6, :6].max() <= 8 and changed[-6:, -6:].max() <= 8
    assert np.median(differences) > 20


def test_pairs_repeat_by_seed_and_epoch_and_differ_between_them(pack: FacePack) -> None:
    def first(seed: int, epoch: int) -> np.ndarray:
        data = FacePairs(pack, np.arange(3), SPEC, Settings(), seed)
        data.epoch = epoch
        return data[0]["inputs"]

    assert np.array_equal(first(1, 2), first(1, 2))
    assert not np.array_equal(first(1, 2), first(1, 3))
    assert not np.array_equal(first(1, 2), first(2, 2))


def test_without_any_jitter_a_real_is_the_crop_that_analysis_makes(pack: FacePack) -> None:
    """Training and analysis go through one geometry: what differs from the crop of face_input is colour only."""
    from preprocessing.crops import face_input

    settings = Settings(degrade=False, margin_jitter=0, shift_jitter=0)
    plain = face_input(pack.image(0), (0, 0), pack.points[0], SPEC).astype(float)
    data = FacePairs(pack, np.zeros(40, np.int64), SPEC, settings, seed=1)
    nearest = min(np.abs(data[i]["inputs"][0] - plain).mean() for i in range(40))
    assert nearest < 1.0


def test_build_gives_splits_for_the_detector_and_packs_where_needed(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {"name": "t", "detector": "mesonet", "data": {"kind": "faces"}, "epochs": 1, "batch": 2}
    )
    settings = Settings(pack=tmp_path / "faces.npz", held_out=0.3)
    with pytest.raises(RecipeError, match="--data"):
        build(settings, recipe, create("mesonet"), None)
    splits = build(settings, recipe, create("mesonet"), folder)
    assert len(splits.train) + len(splits.validation) == sum(splits.summary["faces"].values()) > 0
    assert splits.train[0]["inputs"].shape == (2, 256, 256, 3)
    with pytest.raises(RecipeError, match="takes LandmarkInput"):
        build(settings, recipe, create("lrnet"), None)


def test_bad_folders_and_packs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", "--data", str(tmp_path / "none"), "--out", str(tmp_path / "x.npz")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert main(["pack", "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "x.npz")]) == 2
    assert "no face was found" in capsys.readouterr().err
    (tmp_path / "bad.npz").write_bytes(b"PK")
    with pytest.raises(RecipeError, match=r"bad\.npz is not a file"):
        FacePack.load(tmp_path / "bad.npz")
