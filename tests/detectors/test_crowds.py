"""More faces than an analysis takes: a picture of a thousand, a video in which a thousand come and go."""

from pathlib import Path

import psutil
import pytest
from hostile_corpus import crowded, thousand_faces
from local_api import untrained

from detectors.local import LocalStages, analyse_file
from detectors.result import AnalysisResult
from preprocessing.settings import Settings, TrackingSettings

pytestmark = pytest.mark.slow
SETTINGS = Settings(
    tracking=TrackingSettings(box_every=1, max_faces=20, max_tracks=30), heatmaps=0, detectors=("mesonet",)
)


def analysed(path: Path, folder: Path) -> tuple[AnalysisResult, float]:
    """The result, and the MB that this process had more than before at most."""
    loaded = untrained(folder)
    own = psutil.Process()
    before = own.memory_info().rss
    peak = [0.0]

    def watch(stage: str, share: float) -> None:
        peak.append((own.memory_info().rss - before) / 1e6)

    return analyse_file(path, LocalStages(loaded), SETTINGS, progress=watch).result, max(peak)


def test_of_a_thousand_faces_in_a_picture_the_largest_are_judged_and_the_rest_is_told(tmp_path: Path) -> None:
    result, more = analysed(crowded(tmp_path / "crowd.png"), tmp_path)
    assert len(result.faces) == 20 and result.incomplete
    assert any("the 20 largest were analysed" in warning.message for warning in result.warnings), result.warnings
    assert more < 700, f"{more:.0f} MB for one picture of 30 MB"


def test_of_a_thousand_tracks_the_first_are_judged_and_the_rest_is_told(tmp_path: Path) -> None:
    result, more = analysed(thousand_faces(tmp_path / "crowd.mp4"), tmp_path)
    assert len(result.faces) == 30 and result.incomplete
    (told,) = [warning.message for warning in result.warnings if "more faces appear" in warning.message]
    assert int(told.split()[0]) > 900, told
    assert more < 700, f"{more:.0f} MB for a video of 450 px"
