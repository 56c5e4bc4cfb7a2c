"""Takes analyses from the store and runs them over any stages: on Ray in the graph, in-process in tests."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from typing import Protocol, TypeVar

from detectors.pipeline import Stages, analyse
from detectors.result import Analysis
from preprocessing.errors import MediaError
from preprocessing.settings import Settings
from serve.meters import Meters, NoMeters
from serve.settings import RunnerArgs
from serve.storage import Storage
from serve.store import AWAY, Failure, Job, JobStore
from serve.tracing import ROOT, during

log = logging.getLogger("unmask.runner")
TICK_S = 0.25
"""With analyses running: progress is written, cancellations are seen."""
IDLE_S = 1.0
"""Without: the store is asked for work that no notification announced."""

Found = TypeVar("Found")


class PartLost(Exception):
    """A process of the graph died while it held or made something that this analysis needs."""


class GraphStages(Stages, Protocol):
    """Stages whose parts may die. `lost` says that one did and took data with it, so the answer is not whole."""

    lost: bool


class JobRunner:
    """Runs up to `args.slots` analyses at once; `run` goes on until it is cancelled."""

    def __init__(
        self,
        store: JobStore,
        storage: Storage,
        stages: Callable[[Job], GraphStages],
        args: RunnerArgs,
        owner: str,
        meters: Meters | None = None,
    ) -> None:
        self._store, self._storage, self._stages, self._args, self._owner = store, storage, stages, args, owner
        self._meters = meters or NoMeters()
        self._running: dict[str, asyncio.Task[None]] = {}
        self._progress: dict[str, tuple[str, float]] = {}
        self._detectors: dict[str, dict[str, float]] = {}
        self._wake = asyncio.Event()

    def notify(self) -> None:
        """An analysis is waiting."""
        self._wake.set()

    async def run(self) -> None:
        """Lease, run, beat. On cancellation the running analyses are queued again.

        A store that is away for a moment costs nothing that runs: the next beat extends the leases again, or tells
        which analyses another runner has taken meanwhile.
        """
        away = False
        try:
            while True:
                self._wake.clear()
                try:
                    # In this order: only a beat keeps analyses whose lease ran out from being leased a second time.
                    if self._running:
                        await self._beat()
                    await self._fill()
                    away = False
                except AWAY as error:
                    if not away:
                        log.warning("the job store is away, and is asked again: %s", error)
                    away = True
                # Not wait_for: in Python 3.11 it loses a cancellation that comes as an analysis ends.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(TICK_S if self._running and not away else IDLE_S):
                        await self._wake.wait()
        finally:
            tasks = dict(self._running)
            for task in tasks.values():
                task.cancel()
            await asyncio.gather(*tasks.values(), return_exceptions=True)
            for job_id in tasks:
                try:
                    self._store.give_back(job_id, self._owner, counted=False)  # a deploy is no fault of the analysis
                except AWAY:  # it is taken again when its lease has run out
                    log.warning("%s could not be given back", job_id)

    async def _fill(self) -> None:
        while len(self._running) < self._args.slots:
            job = await asyncio.to_thread(self._store.lease, self._owner, self._args.lease_s, self._args.max_attempts)
            if job is None:
                return
            self._progress[job.id], self._detectors[job.id] = ("starting", 0.0), {}
            task = asyncio.create_task(self._execute(job))
            self._running[job.id] = task
            task.add_done_callback(lambda _, job_id=job.id: self._ended(job_id))  # type: ignore[misc]

    def _ended(self, job_id: str) -> None:
        self._running.pop(job_id, None)
        self._progress.pop(job_id, None)
        self._detectors.pop(job_id, None)
        self._wake.set()

    async def _beat(self) -> None:
        detectors = {job_id: dict(done) for job_id, done in self._detectors.items()}
        lost = await asyncio.to_thread(
            self._store.beat, self._owner, dict(self._progress), self._args.lease_s, detectors
        )
        for job_id in lost:
            if (task := self._running.get(job_id)) is not None:
                task.cancel()

    async def _execute(self, job: Job) -> None:
        with during(job.id, ROOT, attempt=job.attempts, bytes=job.size):
            try:
                await self._attempt(job)
            except AWAY as error:
                log.error("the job store stayed away; the analysis begins again when its lease has run out: %s", error)

    async def _told(self, call: Callable[..., Found], *args: object) -> Found:
        """A call to the store, made again for as long as a lease lasts while the store is away."""
        until = time.monotonic() + self._args.lease_s
        while True:
            try:
                return await asyncio.to_thread(call, *args)
            except AWAY:
                if time.monotonic() > until:
                    raise
            await asyncio.sleep(IDLE_S)

    async def _attempt(self, job: Job) -> None:
        stages = self._stages(job)
        try:
            async with asyncio.timeout(self._args.deadline_s):
                analysis = await self._analyse(job, stages)
            if stages.lost and job.attempts < self._args.max_attempts:
                await self._again(job)
            else:  # at the last attempt an answer without the detector that keeps dying is better than none
                await self._told(self._keep, job, analysis)
                self._meters.done(analysis.result)
                log.info("done: %s", analysis.result.verdict)
        except AWAY:
            raise
        except Exception as error:
            if stages.lost and job.attempts < self._args.max_attempts:
                await self._again(job)
            else:
                failure = self._failure(job, error)
                await self._told(self._store.fail, job.id, self._owner, failure)
                self._meters.failed(failure.code)
                log.info("failed: %s", failure.reason)

    async def _analyse(self, job: Job, stages: Stages) -> Analysis:
        def progress(stage: str, share: float) -> None:
            if detector := stage.partition("/")[2]:
                self._detectors.get(job.id, {})[detector] = round(share, 3)
            else:
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
        log.warning("interrupted (attempt %d)", job.attempts)
        await asyncio.sleep(min(job.attempts, 5))
        await self._told(self._store.give_back, job.id, self._owner)

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
        log.error("failed by a fault of unmask", exc_info=error)
        hint = f"this is a fault of unmask; the server's log has the details under {job.id}"
        return Failure("internal", f"the analysis failed ({type(error).__name__})", hint)
