"""Vectors of faces: dlib's tells people apart out of the box, FaceNet's needs the user's weights."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from astronaut import HEAD

from detectors.checkpoints import CheckpointError
from detectors.embeddings import DlibEmbedding, FaceNetEmbedding
from detectors.methods.triplet.networks import FaceNet
from preprocessing.crops import face_input
from preprocessing.inputs import FaceInput
from preprocessing.landmarks import create_landmark_predictor
from preprocessing.models import ModelFileError

FACE = np.array([[78, 82, 165, 169]], np.float32)
"""dlib's HOG box of the face in HEAD."""


@pytest.fixture(scope="module")
def dlib_source() -> DlibEmbedding:
    return DlibEmbedding()


def test_the_same_face_stays_near_and_its_crop_too(dlib_source: DlibEmbedding) -> None:
    landmarks = create_landmark_predictor()
    points = landmarks.predict(HEAD, FACE)
    vector = dlib_source.faces(HEAD, points)
    assert vector.shape == (1, 128) and vector.dtype == np.float32
    dark = (HEAD * 0.7).astype(np.uint8)
    again = dlib_source.faces(dark, landmarks.predict(dark, FACE))
    crop = face_input(HEAD, (0, 0), points[0], FaceInput(160, 1.6))
    from_crop = dlib_source.embed(crop[None], margin=1.6)
    # dlib calls two pictures the same person below 0.6.
    assert np.linalg.norm(vector - again) < 0.3
    assert np.linalg.norm(vector - from_crop) < 0.3
    other = cv2.warpAffine(HEAD, np.float32([[1.6, 0, -70], [0, 0.7, 40]]), (250, 250))  # type: ignore[arg-type]
    wide = dlib_source.faces(other, landmarks.predict(other, FACE))
    assert np.linalg.norm(vector - wide) > np.linalg.norm(vector - again)
    assert np.array_equal(vector, dlib_source.faces(HEAD, points))


def test_no_faces_give_no_vectors(dlib_source: DlibEmbedding) -> None:
    assert dlib_source.faces(HEAD, np.zeros((0, 68, 2), np.float32)).shape == (0, 128)
    assert dlib_source.embed(np.zeros((0, 160, 160, 3), np.uint8), 1.6).shape == (0, 128)


def test_what_is_no_crop_is_refused(dlib_source: DlibEmbedding) -> None:
    with pytest.raises(ValueError, match=r"uint8 RGB crops \(N, S, S, 3\), not float64"):
        dlib_source.embed(np.zeros((1, 160, 160, 3)), 1.6)  # type: ignore[arg-type]


def test_a_missing_model_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "broken.dat").write_bytes(b"no model")
    monkeypatch.setattr("detectors.embeddings.bundled_dlib_model", lambda name: tmp_path / "broken.dat")
    with pytest.raises(ModelFileError, match=r"broken\.dat is not dlib's face recognition model"):
        DlibEmbedding()


def test_facenets_vectors_have_unit_norm_and_its_scale(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = FaceNet().eval()
    torch.save(net.net.state_dict(), tmp_path / "vggface2.pt")
    crops = np.random.default_rng(0).integers(0, 256, (3, 160, 160, 3), np.uint8)
    source = FaceNetEmbedding(tmp_path / "vggface2.pt", batch=2)
    found = source.embed(crops, 1.6)
    assert source.name == "facenet-vggface2-keras_facenet" and found.shape == (3, 512)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    with torch.inference_mode():
        expected = net((torch.from_numpy(crops).permute(0, 3, 1, 2).float() - 127.5) / 127.5)
    assert np.allclose(found, expected, atol=1e-5)
    with pytest.raises(ValueError, match="takes crops of 160 pixels, not 96"):
        source.embed(crops[:, :96, :96], 1.6)
    torch.save({"x": torch.zeros(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=r"other\.pt does not fit"):
        FaceNetEmbedding(tmp_path / "other.pt")
