"""The runner over a store that goes away: nothing that runs is lost, nothing is leased twice."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from detectors.pipeline import Analysis
from preprocessing.errors import UndecodableMedia
from serve.runner import JobRunner
from serve.settings import RunnerArgs
from serve.storage import Storage, new_id
from serve.store import Job, JobStore


class AwayStore(JobStore):
    """Raises what a locked or restarted database does, while `away`."""

    away = False
    refused = 0

    def _ask(self, call: str, *args: Any) -> Any:
        if self.away:
            self.refused += 1
            raise sa.exc.OperationalError(call, None, Exception("database is locked"))
        return getattr(JobStore, call)(self, *args)

    def lease(self, *args: Any) -> Any:
        return self._ask("lease", *args)

    def beat(self, *args: Any) -> Any:
        return self._ask("beat", *args)

    def fail(self, *args: Any) -> Any:
        return self._ask("fail", *args)

    def give_back(self, *args: Any, **more: Any) -> Any:
        return self._ask("give_back", *args, *more.values())


class SlowRunner(JobRunner):
    """Its analyses last until `end` is set, and then find nothing."""

    end: asyncio.Event
    begun = 0

    async def _analyse(self, job: Job, stages: Any) -> Analysis:
        self.begun += 1
        await self.end.wait()
        raise UndecodableMedia("no picture")


class Sound:
    """Stages that lose nothing."""

    lost = False


@pytest.fixture
def store(tmp_path: Path) -> AwayStore:
    return AwayStore(tmp_path / "jobs.sqlite3")


def runner(store: JobStore, folder: Path, lease_s: float = 15) -> SlowRunner:
    made = SlowRunner(store, Storage(folder), lambda job: Sound(), RunnerArgs(lease_s=lease_s), "me")  # type: ignore[arg-type, return-value]
    made.end = asyncio.Event()
    return made


def queued(store: JobStore) -> str:
    job = Job(new_id(), "clip.mp4", "{}", time.time())
    store.create(job, 10)
    return job.id


async def stopped(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait({task}, timeout=2)
    assert task.cancelled(), "it goes on though it was cancelled"


async def until(true: Any) -> None:
    while not true():
        await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("serve.runner.IDLE_S", 0.02)
    monkeypatch.setattr("serve.runner.TICK_S", 0.02)


def test_a_store_that_goes_away_and_comes_back_costs_no_attempt(store: AwayStore, tmp_path: Path) -> None:
    job_id = queued(store)

    async def work() -> SlowRunner:
        made = runner(store, tmp_path, lease_s=4)
        task = asyncio.create_task(made.run())
        await until(lambda: made.begun)
        store.away = True
        await asyncio.sleep(4.3)  # longer than the lease
        assert store.refused > 1 and not task.done()
        store.away = False
        await asyncio.sleep(0.1)
        store.away = True
        made.end.set()  # the end is to be told while it is away again
        await asyncio.sleep(0.1)
        store.away = False
        await until(lambda: store.get(job_id).status == "failed")  # type: ignore[union-attr]
        await stopped(task)
        return made

    made = asyncio.run(asyncio.wait_for(work(), 20))
    found = store.get(job_id)
    assert found is not None and found.error is not None and found.error.code == "undecodable"
    assert (found.attempts, made.begun) == (1, 1), "its own lease, run out meanwhile, is not taken for another's"


def test_a_runner_stops_even_where_it_is_woken_at_that_moment(
    store: AwayStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("serve.runner.IDLE_S", 10)

    async def work() -> None:
        made = runner(store, tmp_path)
        task = asyncio.create_task(made.run())
        await until(lambda: made._wake._waiters)  # type: ignore[attr-defined]
        made.notify()
        await stopped(task)

    asyncio.run(asyncio.wait_for(work(), 5))


def test_analyses_are_given_back_one_by_one_even_where_the_store_refuses(store: AwayStore, tmp_path: Path) -> None:
    first, second = queued(store), queued(store)
    refuse = {first}

    def give_back(job_id: str, owner: str, counted: bool) -> bool:
        if job_id in refuse:
            raise sa.exc.OperationalError("", None, Exception("database is locked"))
        return JobStore.give_back(store, job_id, owner, counted)

    async def work() -> None:
        made = runner(store, tmp_path)
        task = asyncio.create_task(made.run())
        await until(lambda: made.begun == 2)
        store.give_back = give_back  # type: ignore[method-assign]
        await stopped(task)

    asyncio.run(asyncio.wait_for(work(), 20))
    found = {job_id: store.get(job_id) for job_id in (first, second)}
    assert [job.status for job in found.values() if job] == ["running", "queued"]
    assert [job.attempts for job in found.values() if job] == [1, 0], "to be stopped with its runner costs no attempt"
