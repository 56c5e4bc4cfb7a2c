"""The small networks that draw pseudo-fakes, trained for real on a few faces."""

from pathlib import Path

import pytest
from training_media import make_pack

from preprocessing.blending.rendered import CODECS, load_codecs
from train.renderer import main


def test_a_renderer_is_trained_and_read_again(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    pack, out = make_pack(tmp_path / "faces.npz", 3), tmp_path / "renderer.safetensors"
    assert main([str(pack), "--out", str(out), "--steps", "2"]) == 0
    assert len(load_codecs(out)) == len(CODECS) and "MB" in capfd.readouterr().out


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "none.npz")]) == 2
    assert "none.npz" in capsys.readouterr().err
