"""The HTTP API as a FastAPI app over a job store and a storage folder; it knows nothing of Ray."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response, Security
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from preprocessing.settings import Settings
from serve import analyses, operations
from serve.access import Gate, Tokens
from serve.answers import Health, Whoever
from serve.meters import CONTENT_TYPE, ApiMeters
from serve.problems import ErrorAnswer, Problem, answer, fault, install
from serve.services import Services, caller_of, services_of

log = logging.getLogger("unmask.api")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-site",
}
PAGES = ("/docs", "/redoc", "/docs/oauth2-redirect")
"""What a browser shows as a page, with scripts of its own; all else is data."""
SWEEP_S = 600.0
"""Between looks for analyses whose time is over."""
LOST_S = 6 * 3600.0
"""Between looks for files that no analysis has: all folders of the storage are listed."""
READY_S = 1.0
"""So long is an answer of /readyz good: anybody may ask, and each question goes to every part of the graph."""

router = APIRouter()
open_router = APIRouter()
"""Answered to everyone."""


@router.get("/v1/detectors")
async def detectors(request: Request) -> list[dict[str, Any]]:
    """The detectors that take part, with their method, paper, weights, licence and measured figures."""
    return await services_of(request).detectors()


@router.get("/v1/settings", response_model=Settings)
async def settings(request: Request) -> Settings:
    """What an analysis runs with unless its form says otherwise; limits can be lowered, not raised."""
    return services_of(request).settings


@router.get("/v1/caller", response_model=Whoever)
async def caller(request: Request) -> Whoever:
    """Who asks, and what they may do."""
    found = caller_of(request)
    return Whoever(name=found.name, role=found.role)


@open_router.get("/healthz", response_model=Health)
async def healthz() -> Health:
    """The gateway answers."""
    return Health(status="ok")


@open_router.get("/readyz", response_model=Health, responses={503: {"model": Health}})
async def readyz(request: Request) -> Response:
    """Every part of the graph answers; 503 with the parts that do not. At most a second old."""
    parts = await request.app.state.ready()
    ok = bool(parts) and all(parts.values())
    health = Health(status="ok" if ok else "not_ready", parts=parts)
    return JSONResponse(health.model_dump(), 200 if ok else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Prometheus's text: requests, queue, streams, storage."""
    services, meters = services_of(request), request.app.state.meters
    counts = await asyncio.to_thread(services.store.counts)
    free = await asyncio.to_thread(services.storage.free_bytes)
    return Response(meters.text(counts, services.uploads, services.streams, free), media_type=CONTENT_TYPE)


def create_app(services: Services) -> FastAPI:
    """The API over these services."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        sweeping = asyncio.create_task(_keep_sweeping(services))
        try:
            yield
        finally:
            sweeping.cancel()

    app = FastAPI(title="unmask", version="1", description="Deepfake forensics: upload, follow, read the verdict.")
    app.router.lifespan_context = lifespan
    app.state.services = services
    app.state.gate = Gate(Tokens(services.storage.root / "tokens.json"))
    app.state.meters = ApiMeters()
    app.state.operations = operations.keeper()
    app.state.ready = _Ready(services)
    install(app)
    # Who may do what is the guard's to say; this tells it to the reader of /docs.
    bearer = Security(HTTPBearer(auto_error=False, description="a token of `unmask tokens add NAME`, where any exist"))
    refusals: dict[int | str, dict[str, Any]] = {status: {"model": ErrorAnswer} for status in (400, 401, 403)}
    app.include_router(analyses.router, dependencies=[bearer], responses=refusals)
    app.include_router(operations.router, dependencies=[bearer], responses=refusals)
    app.include_router(router, dependencies=[bearer], responses=refusals)
    app.include_router(open_router)
    app.add_middleware(_Guard, gate=app.state.gate, meters=app.state.meters)
    return app


class _Ready:
    """Asks the graph at most once in READY_S, however many want to know."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._asking = asyncio.Lock()
        self._parts: dict[str, bool] = {}
        self._asked = float("-inf")

    async def __call__(self) -> dict[str, bool]:
        async with self._asking:
            if time.monotonic() - self._asked > READY_S:
                self._parts = await self._services.ready()
                self._asked = time.monotonic()
            return self._parts


async def _keep_sweeping(services: Services) -> None:
    looked = float("-inf")
    while True:
        with suppress(Exception):  # a store that is away for a moment is asked again
            await asyncio.to_thread(forget_old, services)
            if time.monotonic() - looked > LOST_S:
                await asyncio.to_thread(forget_lost, services)
                looked = time.monotonic()
        await asyncio.sleep(SWEEP_S)


def forget_old(services: Services) -> int:
    """Deletes analyses that ended longer ago than the operator keeps them; how many."""
    old = services.store.expired(time.time() - 86400 * services.args.keep_days)
    for job_id in old:
        services.storage.delete(job_id)
        services.store.delete(job_id)
    if old:
        log.info("%d analyses were older than %g days and are deleted", len(old), services.args.keep_days)
    return len(old)


def forget_lost(services: Services) -> int:
    """Deletes uploads whose process ended before their analysis was stored; how many were complete."""
    services.storage.sweep()
    idle = services.storage.idle()
    known = services.store.known(idle)
    lost = [job_id for job_id in idle if job_id not in known]
    for job_id in lost:
        services.storage.delete(job_id)
    if lost:
        log.info("%d uploads without an analysis are deleted", len(lost))
    return len(lost)


class _Guard:
    """Tokens, headers on every answer, no changes from pages of other sites, a fault of the program as an answer too;
    plain ASGI, so streams stay streams."""

    def __init__(self, app: ASGIApp, gate: Gate, meters: ApiMeters) -> None:
        self._app, self._gate, self._meters = app, gate, meters

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        started = False

        async def guarded(message: Message) -> None:
            nonlocal started
            started = True
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
                if _route(scope) not in PAGES:
                    headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
                self._meters.request(scope, message["status"], time.perf_counter() - began)
            await send(message)

        refusal = self._refusal(scope)
        try:
            await (refusal or self._app)(scope, receive, guarded)
        except ClientDisconnect:  # nobody is there to be answered
            return
        except Exception as error:
            told = fault(scope, error)
            if started:
                raise
            await told(scope, receive, guarded)

    def _refusal(self, scope: Scope) -> Any:
        """None where the request may go on; then its state has the caller."""
        headers = Headers(scope=scope)
        # A page of another site, or of another port here, must not upload, change or delete through the browser of
        # someone who runs unmask here.
        elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
        if elsewhere and scope["method"] not in ("GET", "HEAD"):
            return answer(403, "cross_site", "requests from other sites are refused", "open unmask's own page")
        client = scope.get("client")
        try:
            found = self._gate.caller(_route(scope), scope["method"], headers, client[0] if client else None)
        except Problem as error:
            return answer(error.status, error.code, error.reason, error.hint, error.headers)
        except ValueError:
            log.exception("the tokens cannot be read")
            return answer(503, "tokens", "the service's tokens cannot be read", "its log has the details")
        scope.setdefault("state", {})["caller"] = found
        return None


def _route(scope: Scope) -> str:
    """The path that the app's routes are found by: without the prefix under which Serve or a proxy has put the app."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
