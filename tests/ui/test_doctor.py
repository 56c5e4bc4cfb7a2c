"""`unmask doctor` tells what is there, and turns whatever fails into a finding with a way out."""

import json

import pytest

from ui import doctor


def test_everything_works_where_the_tests_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.run(as_json=True)
    found = {one["what"]: one for one in json.loads(capsys.readouterr().out)}
    assert found["decoding"]["state"] == found["confinement"]["state"] == found["weights"]["state"] == "ok"
    assert "detectors have weights" in found["weights"]["found"] and "ray 2." in found["Ray"]["found"]


def test_what_fails_is_a_finding_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fall(*_: object) -> None:
        raise OSError("a library\nis not there")

    monkeypatch.setattr("preprocessing.landmarks.create_landmark_predictor", fall)
    monkeypatch.setattr("preprocessing.media.reader.filters_calls", lambda: False)
    assert not doctor.run(as_json=False)
    told = " ".join(capsys.readouterr().out.split())
    assert "broken" in told and "a library is not there" in told and "→ make clean" in told
    assert "limited" in told and "no system-call filter" in told
