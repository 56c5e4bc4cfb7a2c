"""Face detectors behind one interface: dlib's HOG and CNN, MTCNN, and a search that combines them."""

from preprocessing.faces.base import FaceDetector
from preprocessing.faces.search import create_face_detector

__all__ = ["FaceDetector", "create_face_detector"]
