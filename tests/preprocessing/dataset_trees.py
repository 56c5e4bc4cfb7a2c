"""Miniature trees of the known data sets: right names and files, a byte of content each."""

import json
from collections.abc import Iterable
from pathlib import Path


def touch(root: Path, names: Iterable[str]) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")


PAIRS = {"train": [["000", "003"], ["004", "007"]], "val": [["010", "011"]], "test": [["020", "021"]]}
METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def faceforensics(root: Path, level: str = "c23") -> Path:
    """Four pairs, four methods, masks of all but NeuralTextures, official splits in splits/."""
    for split, pairs in PAIRS.items():
        (root / "splits").mkdir(parents=True, exist_ok=True)
        (root / "splits" / f"{split}.json").write_text(json.dumps(pairs))
        for a, b in pairs:
            touch(root, (f"original_sequences/youtube/{level}/videos/{one}.mp4" for one in (a, b)))
            for method in METHODS:
                base = f"manipulated_sequences/{method}"
                touch(root, (f"{base}/{level}/videos/{name}.mp4" for name in (f"{a}_{b}", f"{b}_{a}")))
                if method != "NeuralTextures":
                    touch(root, (f"{base}/masks/videos/{name}.mp4" for name in (f"{a}_{b}", f"{b}_{a}")))
    return root


def dfd(root: Path) -> Path:
    """Three actors, two of them swapped both ways."""
    touch(root, (f"original_sequences/actors/c23/videos/{name}.mp4" for name in ("01__kitchen_pan", "02__kitchen_pan")))
    touch(root, ["original_sequences/actors/c23/videos/03__exit_phone_room.mp4"])
    names = ("01_02__kitchen_pan__AB12CD34", "02_01__kitchen_pan__ZZ99YY88")
    touch(root, (f"manipulated_sequences/DeepFakeDetection/c23/videos/{name}.mp4" for name in names))
    return root


def celebdf(root: Path, tested: int = 518) -> Path:
    """Version by the length of the test list: 518 for v2, 100 for v1."""
    touch(root, [f"Celeb-real/id{i}_0000.mp4" for i in range(4)])
    touch(root, [f"YouTube-real/0000{i}.mp4" for i in range(3)])
    touch(root, ["Celeb-synthesis/id0_id1_0000.mp4", "Celeb-synthesis/id2_id3_0000.mp4"])
    lines = ["1 Celeb-real/id2_0000.mp4", "1 YouTube-real/00002.mp4", "0 Celeb-synthesis/id2_id3_0000.mp4"]
    lines += [f"1 YouTube-real/9{i:04d}.mp4" for i in range(tested - len(lines))]
    (root / "List_of_testing_videos.txt").write_text("\n".join(lines) + "\n")
    return root


def dfdc(root: Path) -> Path:
    """Two parts; in each one real video and two fakes of it."""
    for part in (0, 1):
        folder = root / f"dfdc_train_part_{part}"
        rows: dict[str, dict[str, str]] = {f"real{part}.mp4": {"label": "REAL", "split": "train"}}
        for i in range(2):
            rows[f"fake{part}{i}.mp4"] = {"label": "FAKE", "split": "train", "original": f"real{part}.mp4"}
        touch(folder, rows)
        (folder / "metadata.json").write_text(json.dumps(rows))
    return root


def dfdcp(root: Path) -> Path:
    """Two actors, a swap of each method, official train and test."""
    rows = {
        "original_videos/11/11_A_001.mp4": {"label": "real", "set": "train", "target_id": "11", "swapped_id": None},
        "original_videos/22/22_A_001.mp4": {"label": "real", "set": "test", "target_id": "22", "swapped_id": None},
        "method_A/11/11_C/33_11_C_001.mp4": {"label": "fake", "set": "train", "target_id": "11", "swapped_id": "33"},
        "method_B/22/22_C/44_22_C_001.mp4": {"label": "fake", "set": "test", "target_id": "22", "swapped_id": "44"},
    }
    touch(root, rows)
    (root / "dataset.json").write_text(json.dumps(rows))
    return root


def wilddeepfake(root: Path) -> Path:
    """A sequence of three frames in each of the four folders."""
    for folder in ("real_train", "real_test", "fake_train", "fake_test"):
        label = folder.split("_")[0]
        touch(root, (f"{folder}/7/{label}/12/{frame}.png" for frame in (1, 5, 30)))
    return root


def plain(root: Path) -> Path:
    """Two people; the fakes bear the names of the real videos that they were made from."""
    touch(root, ["real/a.mp4", "real/b.mp4", "fake/swap/a.mp4", "fake/swap/b.mp4", "fake/notes.txt"])
    return root


def manifest(root: Path) -> Path:
    """Three rows, two of one person, and a file that is not there."""
    touch(root, ["x/a.mp4", "x/b.jpg", "x/c.mp4"])
    rows = [
        "path,label,method,split,dataset,identities",
        "x/a.mp4,real,,train,mine,anna",
        "x/b.jpg,fake,swap,train,mine,anna;bo",
        "x/c.mp4,1,,test,mine,cy",
        "x/gone.mp4,0,,test,mine,",
    ]
    (root / "MANIFEST.csv").write_text("\n".join(rows))
    return root
