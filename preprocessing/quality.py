"""What makes a face hard to judge, said as flags: size, blur, pose, framing, a doubtful detection."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.crops import eye_roll, face_input
from preprocessing.inputs import FaceInput
from preprocessing.types import FaceCrop, Quality

SMALL = 64.0
"""Longer side of the landmarks' box in pixels below which a face is small: a 224-px detector input (margin 1.6) then
shows each pixel enlarged by more than two, and blending traces, a few pixels wide, are gone."""
SHARP_INPUT = FaceInput(size=96, margin=1.0)
"""Sharpness is measured on the face at this size: it holds for faces of any size, and smaller ones are small anyway."""
BLURRED = 0.016
"""Variance of the Laplacian over variance of the grey face at SHARP_INPUT, below which a face is blurred."""
ROTATED = 25.0
"""Degrees between the eye line and the horizontal; dlib's detector and landmarks were trained on upright faces and
degrade from about here."""
PROFILE = 45.0
"""Degrees of yaw; further round the far half of the face is hidden, and its landmarks are guesses."""
NOSE_DEPTH = 0.9
"""How far the tip of the nose lies before the outer corners of the eyes, in half their distance (42 of 46 mm)."""
CUT_OFF = 0.05
"""Share of the landmarks' box outside the frame."""
UNCERTAIN = 0.3
"""Detector score (0: just accepted) below which the face may be none: most false finds of dlib's HOG lie below."""


def head_yaw(points: NDArray[np.floating]) -> float:
    """Degrees by which the head is turned, from landmarks (68, 2): 0 frontal, positive towards the picture's right.

    A head turned by t moves the tip of the nose off the middle of the outer eye corners by NOSE_DEPTH * tan(t) half eye
    distances (orthographic view).
    """
    left, right = points[36].astype(np.float64), points[45].astype(np.float64)
    axis = right - left
    length = float(np.hypot(*axis))
    if length < 1e-6:
        return 90.0
    offset = float(np.dot(points[30] - (left + right) / 2, axis)) / length
    return math.degrees(math.atan2(offset, NOSE_DEPTH * length / 2))


def sharpness(crop: FaceCrop, landmarks: NDArray[np.floating]) -> float:
    """Variance of the Laplacian over variance of the grey levels of the face at SHARP_INPUT; no unit."""
    grey = cv2.cvtColor(face_input(crop.image, crop.offset, landmarks, SHARP_INPUT), cv2.COLOR_RGB2GRAY)
    values = grey.astype(np.float32)
    return float(cv2.Laplacian(values, cv2.CV_32F).var() / max(float(values.var()), 1.0))


def quality_flags(crop: FaceCrop, landmarks: NDArray[np.floating], frame_size: tuple[int, int]) -> frozenset[Quality]:
    """The flags of one face: `landmarks` (68, 2) in pixels of the frame of `frame_size` (width, height)."""
    flags: set[Quality] = set()
    low, high = landmarks.min(axis=0), landmarks.max(axis=0)
    width, height = (float(v) for v in np.maximum(high - low, 1e-6))
    if max(width, height) < SMALL:
        flags.add("small")
    elif sharpness(crop, landmarks) < BLURRED:
        flags.add("blurred")
    if abs(math.degrees(eye_roll(landmarks))) > ROTATED:
        flags.add("rotated")
    if abs(head_yaw(landmarks)) > PROFILE:
        flags.add("profile")
    last = np.array(frame_size, np.float64) - 1
    inside = np.maximum(np.minimum(high, last) - np.maximum(low, 0), 0)
    if float(inside[0] * inside[1]) < (1 - CUT_OFF) * width * height:
        flags.add("cut_off")
    if crop.score < UNCERTAIN:
        flags.add("uncertain")
    return frozenset(flags)
