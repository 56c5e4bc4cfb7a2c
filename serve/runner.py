"""Takes analyses from the store and runs them over any stages: on Ray in the graph, in-process in tests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Protocol

from detectors.pipeline import Analysis, Stages, analyse
from preprocessing.errors import MediaError
from preprocessing.settings import Settings
from serve.settings import RunnerArgs
from serve.storage import Storage
from serve.store import Failure, Job, JobStore

log = logging.getLogger("unmask.runner")
TICK_S = 0.25
"""With analyses running: progress is written, cancellations are seen."""
IDLE_S = 1.0
"""Without: the store is asked for work that no notification announced."""


class PartLost(Exception):
    """A process of the graph died while it held or made something that this analysis needs."""


class GraphStages(Stages, Protocol):
    """Stages whose parts may die. `lost` says that one did and took data with it, so the answer is not whole."""

    lost: bool


class JobRunner:
    """Runs up to `args.slots` analyses at once; `run` goes on until it is cancelled."""

    def __init__(
        self, store: JobStore, storage: Storage, stages: Callable[[], GraphStages], args: RunnerArgs, owner: str
    ) -> None:
        self._store, self._storage, self._stages, self._args, self._owner = store, storage, stages, args, owner
        self._running: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, tuple[str, float]] = {}
        self._wake = asyncio.Event()

    def notify(self) -> None:
        """An analysis is waiting."""
        self._wake.set()

    async def run(self) -> None:
        """Lease, run, beat. On cancellation the running analyses are queued again."""
        try:
            while True:
                self._wake.clear()
                await self._fill()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), TICK_S if self._running else IDLE_S)
                if self._running:
                    await self._beat()
        finally:
            tasks = dict(self._running)
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            for job_id in tasks:
                self._store.give_back(job_id, self._owner)

    async def _fill(self) -> None:
        while len(self._running) < self._args.slots:
            job = await asyncio.to_thread(self._store.lease, self._owner, self._args.lease_s, self._args.max_attempts)
            if job is None:
                return
            self._progress[job.id] = ("starting", 0.0)
            task = asyncio.create_task(self._execute(job))
            self._running[job.id] = task
            task.add_done_callback(lambda _, job_id=job.id: self._ended(job_id))  # type: ignore[misc]

    def _ended(self, job_id: str) -> None:
        self._running.pop(job_id, None)
        self._progress.pop(job_id, None)
        self._wake.set()

    async def _beat(self) -> None:
        lost = await asyncio.to_thread(self._store.beat, self._owner, dict(self._progress), self._args.lease_s)
        for job_id in lost:
            if (task := self._running.get(job_id)) is not None:
                task.cancel()

    async def _execute(self, job: Job) -> None:
        stages = self._stages()
        try:
            async with asyncio.timeout(self._args.deadline_s):
                analysis = await self._analyse(job, stages)
            if stages.lost and job.attempts < self._args.max_attempts:
                await self._again(job)
            else:  # at the last attempt an answer without the detector that keeps dying is better than none
                await asyncio.to_thread(self._keep, job, analysis)
        except Exception as error:
            if stages.lost and job.attempts < self._args.max_attempts:
                await self._again(job)
            else:
                await asyncio.to_thread(self._store.fail, job.id, self._owner, self._failure(job, error))

    async def _analyse(self, job: Job, stages: Stages) -> Analysis:
        def progress(stage: str, share: float) -> None:
            self._progress[job.id] = (stage, share)

        settings = Settings.model_validate_json(job.settings)
        return await analyse(self._storage.media(job.id), stages, settings, name=job.name, progress=progress)

    def _keep(self, job: Job, analysis: Analysis) -> None:
        with contextlib.suppress(FileNotFoundError):  # deleted meanwhile; finish then finds nothing either
            self._storage.write_artifacts(job.id, analysis.artifacts)
        result = analysis.result
        text = result.model_dump_json(by_alias=True)
        if not self._store.finish(job.id, self._owner, text, result.verdict, result.score):
            found = self._store.get(job.id)
            if found is None or found.status == "cancelled":
                self._storage.delete(job.id)

    async def _again(self, job: Job) -> None:
        """A part of the graph died: it comes back by itself, so the analysis starts again from the stored media."""
        log.warning("analysis %s was interrupted (attempt %d)", job.id, job.attempts)
        await asyncio.sleep(min(job.attempts, 5))
        await asyncio.to_thread(self._store.give_back, job.id, self._owner)

    def _failure(self, job: Job, error: Exception) -> Failure:
        if isinstance(error, MediaError):
            return Failure(error.code, error.reason, error.hint)
        if isinstance(error, TimeoutError):
            return Failure("deadline", f"not done within {self._args.deadline_s:g} s", "analyse a shorter part of it")
        if isinstance(error, ValueError) and str(error).startswith("detector "):
            return Failure("settings", str(error), "see /v1/detectors for those that are there")
        if isinstance(error, PartLost):
            reason = f"the analysis was interrupted {job.attempts} times: {error}"
            return Failure("interrupted", reason, "the server's log says why; try a shorter or smaller file")
        log.error("analysis %s failed", job.id, exc_info=error)
        hint = f"this is a fault of unmask; the server's log has the details under {job.id}"
        return Failure("internal", f"the analysis failed ({type(error).__name__})", hint)
