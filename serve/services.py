"""What the routes of the API work with."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fastapi import Request

from preprocessing.settings import Settings
from serve.access import Caller
from serve.problems import Problem
from serve.settings import GatewayArgs
from serve.storage import Storage
from serve.store import Job, JobStore

PROBES = 2
"""Headers that are read at the same time: each is a process of its own."""


async def no_graph() -> dict[str, Any]:
    """Of a service that does not run on Serve."""
    return {}


@dataclass
class Services:
    """What the routes work with. `detectors` and `ready` ask the graph; `notify` tells runners that one is waiting.

    `graph` asks Serve: `application`, its state, and `parts`, named as in `ready`: status, message, replicas, in_hand.
    """

    store: JobStore
    storage: Storage
    args: GatewayArgs
    settings: Settings
    detectors: Callable[[], Awaitable[list[dict[str, Any]]]]
    ready: Callable[[], Awaitable[dict[str, bool]]]
    notify: Callable[[], None]
    uploads: int = 0
    streams: int = 0
    graph: Callable[[], Awaitable[dict[str, Any]]] = no_graph
    probes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PROBES))


def services_of(request: Request) -> Services:
    """The app's."""
    found: Services = request.app.state.services
    return found


def caller_of(request: Request) -> Caller:
    """Who asks, as the gate found."""
    found: Caller = request.state.caller
    return found


async def job_of(request: Request, job_id: str) -> Job:
    """An analysis that the caller may see. Raises Problem 404: whose it is, or whether it is, stays unsaid."""
    job = await asyncio.to_thread(services_of(request).store.get, job_id)
    sees = caller_of(request).sees
    if job is None or (sees is not None and job.token != sees):
        raise Problem(404, "not_found", "there is no such analysis", "it may have been deleted; see /v1/analyses")
    return job
