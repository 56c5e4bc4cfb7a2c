"""Keeping rows, and running tasks until Ctrl-C."""

from pathlib import Path
from typing import Any

import pytest

from detectors.local import LocalStages
from preprocessing.settings import Settings
from train.measure import RowStore, run_all


class Stages(LocalStages):
    """No detectors, no models."""

    def __init__(self, extractor: str = "dlib68") -> None:
        self._infos: dict[str, Any] = {}
        self.extractor = extractor


def test_a_row_is_found_again_under_all_that_it_depends_on_only(tmp_path: Path) -> None:
    store = RowStore(tmp_path / "new" / "folder", Stages(), Settings())
    store.put("abc", "blur 1", {"score": 0.25})
    assert store.get("abc", "blur 1") == {"score": 0.25}
    assert RowStore(tmp_path / "new" / "folder", Stages(), Settings()).get("abc", "blur 1") == {"score": 0.25}
    assert store.get("abc") is store.get("abd", "blur 1") is None
    others = [(Stages("fan"), Settings()), (Stages(), Settings(detector_deadline_s=1))]
    assert all(RowStore(store.folder, *other).get("abc", "blur 1") is None for other in others)


def test_a_damaged_row_is_measured_again(tmp_path: Path) -> None:
    store = RowStore(tmp_path, Stages(), Settings())
    store.put("abc", "", {"score": 0.25})
    next(tmp_path.glob("*.json")).write_text('{"score": 0.')
    assert store.get("abc") is None


@pytest.mark.parametrize("jobs", [1, 3])
def test_all_tasks_are_done_and_told(jobs: int) -> None:
    told: list[tuple[int, int, bool]] = []
    rows, stopped = run_all(list(range(7)), lambda task: {"twice": 2 * task}, jobs, lambda *one: told.append(one))
    assert not stopped and {place: row["twice"] for place, row in rows.items()} == {i: 2 * i for i in range(7)}
    assert told[-1] == (7, 7, False)


@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_keeps_what_was_done(jobs: int) -> None:
    def told(done: int, total: int, stopping: bool) -> None:
        awaited.append(stopping)
        if done == 3 and not stopping:
            raise KeyboardInterrupt

    awaited: list[bool] = []

    rows, stopped = run_all(list(range(50)), lambda task: {"task": task}, jobs, told)
    assert stopped and len(rows) >= 3 and all(row == {"task": place} for place, row in rows.items())
    assert len(rows) == 3 if jobs == 1 else awaited[-1]
