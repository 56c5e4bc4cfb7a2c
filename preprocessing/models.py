"""Where the dlib model files lie, and what is said when one of them cannot be used."""

from __future__ import annotations

import importlib.util
from pathlib import Path


class ModelFileError(Exception):
    """A model file that is missing, damaged or not of the kind asked for; the message names it and the way out."""


def bundled_dlib_model(name: str) -> Path:
    """The path of one of face_recognition_models' dlib files, for example "shape_predictor_68_face_landmarks.dat".

    The package is located without importing it: its import needs pkg_resources, which setuptools no longer ships.

    Raises:
        ModelFileError: the package or the file in it is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    if spec is None or spec.origin is None:
        raise ModelFileError(
            f"dlib's model {name} is not installed: it comes with face_recognition_models"
            " (pip install face_recognition_models==0.3.0)"
        )
    path = Path(spec.origin).parent / "models" / name
    if not path.is_file():
        raise ModelFileError(
            f"face_recognition_models is installed without models/{name}: install it again"
            " (pip install --force-reinstall --no-deps face_recognition_models==0.3.0)"
        )
    return path
