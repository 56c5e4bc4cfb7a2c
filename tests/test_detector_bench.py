"""The benchmark of the detectors, tried on one of each kind of input; what it does on a GPU, on the CPU."""

import pytest
import torch

from benchmarks import detectors as bench
from benchmarks.train_gpu import Device
from detectors import registry


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = [("mesonet", "compact"), ("lrnet", "compact"), ("c3d", "compact"), ("mesonet", "paper")]
    made = [(name, profile, registry.create(name, profile).eval()) for name, profile in chosen]
    monkeypatch.setattr(bench, "_cases", lambda: iter(made))
    for name, value in (("REPEATS", 2), ("WARM_UP", 1), ("BATCH", 2), ("GPU_BATCH", 16)):
        monkeypatch.setattr(bench, name, value)


def test_each_detector_has_its_time_alone_and_its_rate_in_a_batch() -> None:
    threads = torch.get_num_threads()
    rows = {row["metric"]: row for row in bench.run()}
    assert torch.get_num_threads() == threads, "one core is this benchmark's own"
    assert len(rows) == 2 * 4 + 1 and all(row["value"] > 0 and row["n"] == 2 for row in rows.values())
    assert rows["lrnet-compact, 2 at once"]["unit"] == "sequences/s"
    assert "baseline" in rows["c3d-compact, one clip"] and "baseline" not in rows["mesonet-paper, one crop"]
    together = rows["all compact detectors of pictures, one crop"]
    assert together["value"] == pytest.approx(rows["mesonet-compact, one crop"]["value"], abs=0.01)


def test_the_roofline_of_each_is_at_least_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Device, "measured", classmethod(lambda cls, name, side=0: cls(name, 1e15, 1e15)))
    rows = bench.on_gpu("cpu")
    shares = [row["value"] for row in rows if row["metric"].endswith("of the roofline")]
    assert len(shares) == 4 and all(0 <= share < 1 for share in shares)
    assert rows[-1]["unit"] == "crops/s" and rows[-1]["baseline"] == bench.ENSEMBLE_RATE


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_machine_without_a_gpu_says_so() -> None:
    (row,) = bench.on_gpu()
    assert row["value"] is None and "not available" in row["unit"] and row["bench"] == "detectors"
