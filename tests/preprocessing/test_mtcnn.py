"""Our MTCNN cascade gives the library's boxes without the library's import."""

import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
import torch
from astronaut import HEAD, noise, room, turned_head, with_heads

from preprocessing.faces import create_face_detector, mtcnn_networks
from preprocessing.faces.base import rescaled
from preprocessing.faces.mtcnn import ACCEPT, MtcnnCascade
from preprocessing.models import ModelFileError
from preprocessing.types import Image

PICTURES = {
    "portrait": (skimage.data.astronaut(), 1),
    "several": (with_heads([(0, 20, 250), (260, 60, 220), (520, 100, 130)], 700, 360), 3),
    "turned and blurred": (cv2.GaussianBlur(turned_head(30), (0, 0), 3), 1),
    "cut by the edge": (HEAD[95:, :150], 1),
    "noise": (noise(1, 640, 480), 0),
    "rough noise": (np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8), 0),
    "wall": (room(), 0),
}


def by_area(boxes: np.ndarray) -> np.ndarray:
    return np.argsort(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))[::-1]


def assert_like_the_library(picture: Image, smallest: int) -> int:
    """Compares boxes and probabilities; how many faces both found."""
    from facenet_pytorch import MTCNN

    library = MTCNN(keep_all=True, min_face_size=smallest, thresholds=[0.6, 0.7, ACCEPT], device="cpu")
    expected, probabilities = library.detect(np.ascontiguousarray(picture))
    boxes, scores = MtcnnCascade().find(picture, smallest)
    if expected is None:
        assert len(boxes) == 0
        return 0
    expected = np.asarray(expected, np.float32)
    assert boxes.shape == expected.shape
    ours, theirs = by_area(boxes), by_area(expected)
    assert np.abs(boxes[ours] - expected[theirs]).max() <= 1e-2
    assert np.abs(scores[ours] - np.asarray(probabilities, np.float32)[theirs]).max() <= 1e-4
    return len(boxes)


@pytest.mark.parametrize("name", PICTURES)
@pytest.mark.parametrize("smallest", [20, 30])
def test_boxes_and_probabilities_are_the_librarys(name: str, smallest: int) -> None:
    picture, faces = PICTURES[name]
    assert assert_like_the_library(picture, smallest) >= faces


def test_boxes_on_development_stills_are_the_librarys(shared: Path) -> None:
    paths = sorted((shared / "data/stills/dev").rglob("*.jpg"))[::5]
    assert len(paths) >= 6
    for path in paths:
        picture, _ = rescaled(cv2.imread(str(path))[..., ::-1], 640, 2.0)
        assert assert_like_the_library(picture, 20) >= 1


def test_detecting_imports_neither_torchvision_nor_torchs_compiler() -> None:
    script = (
        "import sys, skimage.data\n"
        "from preprocessing.faces import create_face_detector\n"
        "assert create_face_detector('mtcnn', still=True).detect(skimage.data.astronaut())\n"
        "assert create_face_detector('auto', still=True).detect(skimage.data.astronaut())\n"
        "assert 'torch' in sys.modules\n"
        "heavy = {'torchvision', 'facenet_pytorch', 'torch._dynamo', 'sympy', 'scipy.optimize'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    root = Path(__file__).resolve().parents[2]
    ended = subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("damage", ["missing", "cut", "another network's"])
def test_a_damaged_weight_file_is_named_with_the_way_out(
    damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = mtcnn_networks.package_folder()
    assert folder is not None
    (tmp_path / "data").mkdir()
    weights = (folder / "data/rnet.pt").read_bytes()
    if damage == "cut":
        (tmp_path / "data/rnet.pt").write_bytes(weights[: len(weights) // 2])
    elif damage != "missing":
        (tmp_path / "data/rnet.pt").write_bytes((folder / "data/pnet.pt").read_bytes())
    monkeypatch.setattr(mtcnn_networks, "package_folder", lambda: tmp_path)
    with pytest.raises(ModelFileError, match=r"data/rnet\.pt does not load .*pip install"):
        mtcnn_networks.load_network("rnet")


def test_candidates_beyond_one_batch_are_judged_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = PICTURES["several"][0]
    whole, _ = MtcnnCascade().find(picture, 20)
    monkeypatch.setattr("preprocessing.faces.mtcnn.BATCH", 7)
    parts, _ = MtcnnCascade().find(picture, 20)
    assert torch.allclose(torch.from_numpy(whole), torch.from_numpy(parts), atol=1e-2)


def test_the_detector_still_takes_pictures_in_any_memory_order() -> None:
    picture = skimage.data.astronaut()
    detector = create_face_detector("mtcnn", still=True)
    flipped = np.ascontiguousarray(picture[..., ::-1])[..., ::-1]
    assert np.array_equal(detector.detect(picture)[0].box, detector.detect(flipped)[0].box)
