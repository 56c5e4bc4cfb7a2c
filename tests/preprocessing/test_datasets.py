"""Every layout is recognised, read and checked; every wrong folder is named with the way out."""

import json
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dataset_trees as trees
import fsspec
import pytest

from preprocessing.datasets import DatasetError, Item, Tree, detect, index_dataset, layout, leaks, names
from preprocessing.datasets.registry import _LAYOUTS

BUILDERS: dict[str, Callable[[Path], Path]] = {
    "faceforensics": trees.faceforensics,
    "dfd": trees.dfd,
    "celebdf_v2": trees.celebdf,
    "celebdf_v1": lambda root: trees.celebdf(root, 100),
    "dfdc": trees.dfdc,
    "dfdcp": trees.dfdcp,
    "wilddeepfake": trees.wilddeepfake,
    "plain": trees.plain,
    "manifest": trees.manifest,
}


def by_path(root: Path, name: str = "auto") -> dict[str, Item]:
    return {item.path: item for item in index_dataset(name, str(root)).items}


def refusal(root: Path, name: str = "auto") -> str:
    with pytest.raises(DatasetError) as caught:
        index_dataset(name, str(root))
    return str(caught.value)


def test_every_layout_has_a_miniature_here() -> None:
    assert names() == sorted(BUILDERS)


@pytest.mark.parametrize("name", BUILDERS)
def test_a_layout_is_recognised_and_its_items_are_there(name: str, tmp_path: Path) -> None:
    root = BUILDERS[name](tmp_path / "set")
    found = index_dataset("auto", str(root))
    assert found.layout == name
    assert found.items == index_dataset(name, str(root)).items
    assert {item.label for item in found.items} == {0, 1}
    assert len({item.key for item in found.items}) == len(found.items)
    for item in found.items:
        assert (root / item.path).exists()
        assert not item.source or (root / item.source).exists()
        assert not item.mask or (root / item.mask).exists()
        assert item.identities and all("/" in person for person in item.identities)
        assert Item.from_dict(json.loads(json.dumps(item.as_dict()))) == item


@pytest.mark.parametrize("name", BUILDERS)
def test_a_folder_too_high_or_too_deep_points_to_the_right_one(name: str, tmp_path: Path) -> None:
    root = BUILDERS[name](tmp_path / "above" / "set")
    assert f"the folder {root.as_uri()} looks like" in refusal(tmp_path / "above")
    deeper = next(folder for folder in sorted(root.iterdir()) if folder.is_dir() and folder.name != "splits")
    if name != "dfdc":  # a part of DFDC is a data set itself
        assert f"the folder {root.as_uri()} looks like" in refusal(deeper)


@pytest.mark.parametrize("name", ["faceforensics", "celebdf_v2", "dfdc", "plain", "manifest"])
def test_a_layout_is_read_from_any_file_system(name: str, tmp_path: Path) -> None:
    root = BUILDERS[name](tmp_path / "set")
    memory = fsspec.filesystem("memory")
    memory.put(str(root), f"/{name}", recursive=True)
    try:
        there = index_dataset("auto", f"memory://{name}")
        assert [item.path for item in there.items] == sorted(by_path(root))
    finally:
        memory.rm(f"/{name}", recursive=True)
    assert Tree.open(root.as_uri()).url == root.as_uri()


# --- FaceForensics++


def test_faceforensics_tells_people_sources_masks_and_the_official_split(tmp_path: Path) -> None:
    items = by_path(trees.faceforensics(tmp_path))
    fake = items["manipulated_sequences/Deepfakes/c23/videos/010_011.mp4"]
    assert (fake.label, fake.method, fake.compression, fake.split) == (1, "Deepfakes", "c23", "val")
    assert fake.identities == ("FaceForensics++/010", "FaceForensics++/011")
    assert fake.source == "original_sequences/youtube/c23/videos/010.mp4"
    assert fake.mask == "manipulated_sequences/Deepfakes/masks/videos/010_011.mp4"
    assert items["manipulated_sequences/NeuralTextures/c23/videos/010_011.mp4"].mask == ""
    real = items["original_sequences/youtube/c23/videos/021.mp4"]
    assert (real.label, real.method, real.split, real.source) == (0, "", "test", real.path)
    assert Counter(item.split for item in items.values()) == {"train": 20, "val": 10, "test": 10}
    assert not leaks(list(items.values()))


def test_faceforensics_says_what_is_missing(tmp_path: Path) -> None:
    root = trees.faceforensics(tmp_path)
    (root / "manipulated_sequences/FaceSwap/c23/videos/004_007.mp4").unlink()
    shutil.rmtree(root / "manipulated_sequences/Face2Face")
    trees.touch(root, ["original_sequences/youtube/c23/videos/holiday.mp4"])
    notes = " | ".join(index_dataset("auto", str(root)).notes)
    assert "manipulated_sequences/FaceSwap/c23/videos: 1 of the official pairs are missing (004_007)" in notes
    assert "manipulated_sequences/Face2Face is not there" in notes
    assert "original_sequences/youtube/c23/videos: 8 videos of 1000" in notes
    assert "1 files are not named as in FaceForensics++ and are left out (holiday)" in notes
    assert "splits/train.json has 2 pairs, the official one 360" in notes
    assert "no masks for NeuralTextures" in notes


def test_faceforensics_without_its_split_files_names_the_file_and_two_ways_out(tmp_path: Path) -> None:
    root = trees.faceforensics(tmp_path)
    (root / "splits/val.json").rename(root / "val.json")
    assert len(by_path(root)) == 40, "split files may lie at the root"
    (root / "val.json").unlink()
    said = refusal(root)
    assert "splits/val.json, FaceForensics++'s official split, is missing" in said and "--split own" in said
    assert len(index_dataset("auto", str(root), official=False).items) == 40


def test_faceforensics_with_swapped_folders_is_refused(tmp_path: Path) -> None:
    root = trees.faceforensics(tmp_path)
    original, fake = root / "original_sequences/youtube/c23", root / "manipulated_sequences/Deepfakes/c23"
    original.rename(root / "aside")
    fake.rename(original)
    (root / "aside").rename(fake)
    assert "the folders seem swapped" in refusal(root)


def test_a_person_in_two_split_files_is_named(tmp_path: Path) -> None:
    root = trees.faceforensics(tmp_path)
    (root / "splits/test.json").write_text(json.dumps([["000", "021"]]))
    assert "splits/test.json: 000 is in train.json too" in refusal(root)
    (root / "splits/test.json").write_text("[[1, 2]]")
    assert "not a list of pairs of ids" in refusal(root)


def test_faceforensics_indexes_the_actors_beside_it(tmp_path: Path) -> None:
    root = trees.dfd(trees.faceforensics(tmp_path))
    found = index_dataset("auto", str(root))
    assert found.layout == "faceforensics"
    assert Counter(item.dataset for item in found.items) == {"FaceForensics++": 40, "DeepFakeDetection": 5}
    assert all(item.split == "" for item in found.items if item.dataset == "DeepFakeDetection")


# --- the others


def test_dfd_ties_a_swap_to_both_actors_and_its_scene(tmp_path: Path) -> None:
    fake = by_path(trees.dfd(tmp_path))[
        "manipulated_sequences/DeepFakeDetection/c23/videos/01_02__kitchen_pan__AB12CD34.mp4"
    ]
    assert fake.identities == ("DeepFakeDetection/01", "DeepFakeDetection/02")
    assert fake.source == "original_sequences/actors/c23/videos/01__kitchen_pan.mp4"


def test_celebdf_ties_a_swap_to_both_people_and_reads_the_test_list(tmp_path: Path) -> None:
    found = index_dataset("auto", str(trees.celebdf(tmp_path)))
    items = {item.path: item for item in found.items}
    fake = items["Celeb-synthesis/id2_id3_0000.mp4"]
    assert (fake.split, fake.identities) == ("test", ("Celeb-DF/id2", "Celeb-DF/id3"))
    assert fake.source == "Celeb-real/id2_0000.mp4"
    assert items["YouTube-real/00001.mp4"].split == "train"
    assert any("515 listed videos are missing" in note for note in found.notes)
    assert "Celeb-real: 4 videos of 590" in found.notes


def test_a_part_of_celebdf_that_may_be_either_version_asks_which(tmp_path: Path) -> None:
    root = trees.celebdf(tmp_path, 7)
    assert "may be 2 data sets: celebdf_v1" in refusal(root) and "name the one" in refusal(root)
    assert index_dataset("celebdf_v1", str(root)).items[0].dataset == "Celeb-DF-v1"


def test_celebdf_with_a_missing_or_swapped_list_or_folder_is_refused(tmp_path: Path) -> None:
    root = trees.celebdf(tmp_path)
    (root / "Celeb-real").rename(root / "aside")
    (root / "Celeb-synthesis").rename(root / "Celeb-real")
    (root / "aside").rename(root / "Celeb-synthesis")
    assert "holds files named as in" in refusal(root, "celebdf_v2")
    other = trees.celebdf(tmp_path / "other")
    listed = other / "List_of_testing_videos.txt"
    listed.write_text(listed.read_text().replace("0 Celeb-synthesis", "1 Celeb-synthesis"))
    assert "calls Celeb-synthesis/id2_id3_0000.mp4 real, its folder says the opposite" in refusal(other)
    listed.unlink()
    assert "the official test list, is missing" in refusal(other, "celebdf_v2")


def test_dfdc_ties_fakes_to_their_original_across_parts(tmp_path: Path) -> None:
    root = trees.dfdc(tmp_path)
    fake = by_path(root)["dfdc_train_part_1/fake10.mp4"]
    assert fake.identities == ("DFDC/real1.mp4",) and fake.source == "dfdc_train_part_1/real1.mp4"
    (root / "dfdc_train_part_0/real0.mp4").unlink()
    trees.touch(root, ["dfdc_train_part_0/stray.mp4"])
    notes = " | ".join(index_dataset("dfdc", str(root)).notes)
    assert "dfdc_train_part_0: 1 videos are listed in metadata.json but missing (real0.mp4)" in notes
    assert "1 videos are not in metadata.json and left out (stray.mp4)" in notes
    assert "the originals of 2 fakes are not there" in notes and "2 of DFDC's 50 training parts" in notes
    (root / "dfdc_train_part_1/metadata.json").unlink()
    assert "without it nobody knows which videos are fake" in refusal(root)


def test_dfdc_with_a_damaged_table_or_label_is_refused(tmp_path: Path) -> None:
    root = trees.dfdc(tmp_path)
    table = root / "dfdc_train_part_0/metadata.json"
    table.write_text(table.read_text().replace("FAKE", "FAUX"))
    assert "has the label 'FAUX', not REAL or FAKE" in refusal(root)
    table.write_text("{")
    assert "is not JSON" in refusal(root)


def test_dfdcp_reads_people_and_sets_and_sees_labels_that_contradict_folders(tmp_path: Path) -> None:
    root = trees.dfdcp(tmp_path)
    fake = by_path(root)["method_B/22/22_C/44_22_C_001.mp4"]
    assert (fake.split, fake.method, fake.identities) == ("test", "method_B", ("DFDCP/22", "DFDCP/44"))
    table = root / "dataset.json"
    table.write_text(table.read_text().replace("fake", "real"))
    assert "calls method_A/11/11_C/33_11_C_001.mp4 real, its folder says the opposite" in refusal(root)
    table.unlink()
    assert "dataset.json is missing" in refusal(root)


def test_wilddeepfake_items_are_sequences_and_archives_must_be_unpacked(tmp_path: Path) -> None:
    root = trees.wilddeepfake(tmp_path)
    item = by_path(root)["fake_test/7/fake/12"]
    assert (item.kind, item.cropped, item.label, item.split) == ("frames", True, 1, "test")
    trees.touch(root, ["real_train/8.tar.gz"])
    assert "archives that are not unpacked (8.tar.gz)" in refusal(root)
    (root / "real_train/8.tar.gz").unlink()
    trees.touch(root, ["real_train/9/fake/1/1.png"])
    assert "a fake sequence in real_train" in refusal(root)


def test_plain_folders_tell_methods_and_splits_by_their_names(tmp_path: Path) -> None:
    items = by_path(trees.plain(tmp_path / "a"))
    assert items["fake/swap/a.mp4"].method == "swap"
    assert items["fake/swap/a.mp4"].identities == items["real/a.mp4"].identities
    trees.touch(tmp_path / "b", ["train/0/x.mp4", "test/1/y.jpg"])
    found = index_dataset("auto", str(tmp_path / "b"))
    assert [(i.path, i.label, i.split) for i in found.items] == [
        ("test/1/y.jpg", 1, "test"),
        ("train/0/x.mp4", 0, "train"),
    ]
    assert any("0/ is taken for real" in note for note in found.notes)


def test_a_manifest_keeps_people_and_says_which_files_are_missing(tmp_path: Path) -> None:
    root = trees.manifest(tmp_path)
    found = index_dataset("auto", str(root))
    assert found.items[1].identities == ("mine/anna", "mine/bo")
    assert found.notes == ("1 files of MANIFEST.csv are missing (x/gone.mp4)",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file,label\nx/a.mp4,real\n", "needs the columns path and label, has file, label"),
        ("path,label\nx/a.mp4,maybe\n", "line 2: label 'maybe' is not real, fake, 0 or 1"),
        ("path,label\n../a.mp4,real\n", "line 2: '../a.mp4' is not a path below"),
        ("path,label\nx/a.mp4,real\nx/a.mp4,fake\n", "line 3: x/a.mp4 is in line 2 too"),
        ("path,label,split\nx/a.mp4,real,learn\n", "line 2: split 'learn' is not"),
        ("path,label\ny/a.mp4,real\n", "none of the 1 files"),
        ("path,label\n", "no video or picture"),
    ],
)
def test_a_wrong_manifest_says_where_and_what(tmp_path: Path, text: str, reason: str) -> None:
    root = trees.manifest(tmp_path)
    (root / "MANIFEST.csv").write_text(text)
    assert reason in refusal(root)


# --- folders that are no data set, or several


def test_two_data_sets_in_one_folder_are_told_apart_by_name_only(tmp_path: Path) -> None:
    root = trees.celebdf(trees.faceforensics(tmp_path))
    said = refusal(root)
    assert "may be 2 data sets: celebdf_v2" in said and "faceforensics" in said
    assert len(by_path(root, "faceforensics")) == 40


def test_videos_of_another_set_in_a_folder_are_seen_by_their_names(tmp_path: Path) -> None:
    root = trees.celebdf(tmp_path)
    trees.touch(root, [f"Celeb-real/{i:03d}.mp4" for i in range(9)])
    assert any(
        "9 files are not named as in Celeb-DF and are left out" in n for n in index_dataset("auto", str(root)).notes
    )
    for path in (root / "Celeb-real").glob("id*"):
        path.unlink()
    assert "two data sets may be mixed" in refusal(root)


def test_empty_missing_and_unknown_folders_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "it is empty" in refusal(tmp_path / "empty")
    assert "does not exist" in refusal(tmp_path / "none")
    (tmp_path / "file").write_bytes(b"x")
    assert "is a file, not a folder" in refusal(tmp_path / "file")
    trees.touch(tmp_path / "other", ["music/a.mp3"])
    assert "it holds music/" in refusal(tmp_path / "other") and "real/ and fake/" in refusal(tmp_path / "other")
    for name in ("Celeb-real", "YouTube-real", "Celeb-synthesis"):
        (tmp_path / "hollow" / name).mkdir(parents=True)
    (tmp_path / "hollow/List_of_testing_videos.txt").write_text("1 a\n" * 518)
    assert "no video or picture in them" in refusal(tmp_path / "hollow", "celebdf_v2")
    assert "did you mean 'faceforensics'" in refusal(tmp_path / "other", "faceforensic")
    assert "is not DFDC" in refusal(tmp_path / "other", "dfdc")
    with pytest.raises(DatasetError, match="cannot be opened"):
        Tree.open("nosuch://bucket/set")


def test_a_new_layout_is_one_decorated_class(tmp_path: Path) -> None:
    @layout("tiny")
    class Tiny:
        title, official_split = "Tiny", False

        def evidence(self, tree: Tree) -> str:
            return "tiny.txt" if tree.has("tiny.txt") else ""

        def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
            return [Item("tiny.txt", 0, "tiny")], []

    try:
        trees.touch(tmp_path, ["tiny.txt"])
        assert detect(Tree.open(str(tmp_path))) == "tiny"
        with pytest.raises(ValueError, match="two data set layouts are called 'tiny'"):
            layout("tiny")(type("Other", (), {}))
    finally:
        del _LAYOUTS["tiny"]
