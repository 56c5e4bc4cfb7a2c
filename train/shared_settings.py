"""Settings that several kinds of data have alike."""

from __future__ import annotations

from pydantic import Field

from preprocessing.settings import Strict
from train.leaks import ALLOW


class PackSettings(Strict):
    """Who of a pack of faces trains and who validates."""

    held_out: float = Field(default=0.1, gt=0, lt=1, description="share of the people and sources that validate")
    validation_items: int = Field(default=500, ge=1, description="pairs in validation, at most")
    per_dataset: int | None = Field(default=None, ge=1, description="faces of one data set, at most")
    allow_leaks: bool = Field(default=False, description=ALLOW)


class CropSettings(Strict):
    """How crops differ, for real and fake alike."""

    margin_jitter: float = Field(default=0.1, ge=0, le=0.3, description="relative, either way")
    shift_jitter: float = Field(default=0.04, ge=0, le=0.2, description="of the face's side, either way")


class ChangeSettings(CropSettings):
    """What is done to real and fake alike after the fake is made."""

    flip: float = Field(default=0.5, ge=0, le=1, description="odds of the mirror image, of a whole clip")
    post: bool = Field(default=True, description="SBI's changes of colour and JPEG, the same in all frames")
    degrade: bool = Field(default=True, description="resolution, blur, noise and JPEG")
    face_sides: tuple[float, float] = Field(default=(64, 256), description="pixels that faces are brought down to")
    qualities: tuple[int, int] = Field(default=(30, 100), description="of the JPEG passes")
    h264: float = Field(default=0.0, ge=0, le=1, description="odds of an H.264 encoder last: a picture's key frame")
    crfs: tuple[int, int] = Field(default=(18, 38), description="of H.264")
