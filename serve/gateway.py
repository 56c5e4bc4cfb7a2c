"""The HTTP API as a FastAPI app over a job store and a storage folder; it knows nothing of Ray."""

from __future__ import annotations

import asyncio
import difflib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detectors.result import AnalysisResult
from preprocessing.media import probe
from preprocessing.settings import Settings
from serve.fetch import fetch
from serve.problems import ErrorAnswer, ErrorBody, Problem, answer, busy, install
from serve.settings import GatewayArgs, lowered, plain
from serve.storage import TYPES, Storage, new_id
from serve.store import FINAL, Job, JobStore, QueueFull, Status
from serve.uploads import Form, display_name, receive_form

FIELDS = ("file", "url", "settings", "name", "tags")
HEARTBEAT_S = 15.0
FIRST_LOOK_S = 0.02
RETRY_AFTER_S = 10
PROBES = 2
"""Headers that are read at the same time: each is a process of its own."""
Tag = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f,]+$")]


@dataclass
class Services:
    """What the routes work with. `detectors` and `ready` ask the graph; `notify` tells runners that one is waiting."""

    store: JobStore
    storage: Storage
    args: GatewayArgs
    settings: Settings
    detectors: Callable[[], Awaitable[list[dict[str, Any]]]]
    ready: Callable[[], Awaitable[dict[str, bool]]]
    notify: Callable[[], None]
    uploads: int = 0
    streams: int = 0
    probes: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(PROBES))


class Progress(BaseModel):
    """The stage that runs and its share done, 0..1."""

    stage: str
    share: float


class Accepted(BaseModel):
    """An upload that was accepted and now waits."""

    id: str
    status: Status


class Summary(BaseModel):
    """An analysis without its result. Times are seconds since 1970."""

    id: str
    name: str
    status: Status
    progress: Progress
    created: float
    started: float | None
    finished: float | None
    attempts: int
    tags: list[str]
    verdict: str | None
    score: float | None
    error: ErrorBody | None


class View(Summary):
    """An analysis; `result` is there when `status` is done."""

    result: AnalysisResult | None


class Listing(BaseModel):
    """A page of analyses, newest first; `total` counts all that match."""

    total: int
    analyses: list[Summary]


class TagsChange(BaseModel):
    """The tags that an analysis shall have from now on."""

    model_config = ConfigDict(extra="forbid")
    tags: list[Tag] = Field(max_length=20)


class Health(BaseModel):
    """`parts`: each deployment of the graph and whether it answers."""

    status: Literal["ok", "not_ready"]
    parts: dict[str, bool] = {}


router = APIRouter()
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="the id that POST gave")]
_REFUSALS: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer}}
_UPLOAD_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (403, 408, 413, 415, 422, 503, 507)
}
_UPLOAD_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": "an image or a video"},
                        "url": {
                            "type": "string",
                            "description": "instead of a file, where the operator allowed the host",
                        },
                        "settings": {
                            "type": "string",
                            "description": "JSON of the settings to change, see /v1/settings",
                        },
                        "name": {"type": "string", "description": "shown instead of the file's name"},
                        "tags": {"type": "string", "description": "separated by commas"},
                    },
                }
            }
        },
    }
}


def _services(request: Request) -> Services:
    found: Services = request.app.state.services
    return found


def summary(job: Job) -> Summary:
    """A job as the API shows it."""
    error = ErrorBody(code=job.error.code, reason=job.error.reason, hint=job.error.hint) if job.error else None
    return Summary(
        id=job.id,
        name=job.name,
        status=job.status,
        progress=Progress(stage=job.stage, share=round(job.share, 4)),
        created=job.created,
        started=job.started,
        finished=job.finished,
        attempts=job.attempts,
        tags=list(job.tags),
        verdict=job.verdict,
        score=job.score,
        error=error,
    )


async def _job(services: Services, job_id: str) -> Job:
    job = await asyncio.to_thread(services.store.get, job_id)
    if job is None:
        raise Problem(404, "not_found", "there is no such analysis", "it may have been deleted; see /v1/analyses")
    return job


@router.post(
    "/v1/analyses", status_code=202, response_model=Accepted, responses=_UPLOAD_REFUSALS, openapi_extra=_UPLOAD_BODY
)
async def analyse(request: Request) -> Response:
    """Take an image or a video, check its header, and queue it; the address of the analysis is in Location."""
    services = _services(request)
    if await asyncio.to_thread(services.store.queued) >= services.args.max_queued:
        raise busy(f"{services.args.max_queued} analyses are waiting already", RETRY_AFTER_S)
    if services.uploads >= services.args.max_uploads:
        raise busy(f"{services.uploads} uploads are coming in already", RETRY_AFTER_S)
    if await asyncio.to_thread(services.storage.free_bytes) < services.args.min_free_bytes:
        raise Problem(507, "storage", "the server's storage is full", "tell its operator; delete analyses")
    job_id = new_id()
    services.uploads += 1
    kept = False
    try:
        job = await _receive(services, request, job_id)
        await asyncio.to_thread(services.storage.keep, job_id)
        await asyncio.to_thread(services.store.create, job, services.args.max_queued)
        kept = True
    except QueueFull:
        raise busy(f"{services.args.max_queued} analyses are waiting already", RETRY_AFTER_S) from None
    finally:
        services.uploads -= 1
        if not kept:
            await asyncio.shield(asyncio.to_thread(services.storage.delete, job_id))
    services.notify()
    accepted = Accepted(id=job_id, status="queued")
    return JSONResponse(accepted.model_dump(), 202, headers={"Location": f"/v1/analyses/{job_id}"})


async def _receive(services: Services, request: Request, job_id: str) -> Job:
    """The upload on disk, its form and header checked, as a job that is not yet stored."""
    path = services.storage.incoming(job_id)
    operator = services.settings
    form = await receive_form(request, path, operator.limits.max_bytes, services.args.stall_s)
    if unknown := [name for name in form.fields if name not in FIELDS]:
        near = difflib.get_close_matches(unknown[0], FIELDS, n=1)
        raise Problem(422, "form", f"unknown field {unknown[0][:40]!r}", f"did you mean {near[0]!r}?" if near else "")
    settings = await _settings(services, form.fields.get("settings", ""))
    tags = _tags(form.fields.get("tags", ""))
    name = form.file_name
    if name is None:
        name = await _fetch(services, form, job_id, settings)
    elif "url" in form.fields:
        raise Problem(422, "form", "the form has a file and a url", "send one of them")
    async with services.probes:
        await asyncio.to_thread(probe, path, settings.limits)
    if wanted := form.fields.get("name", "").strip():
        name = display_name(wanted)
    return Job(job_id, name, settings.model_dump_json(), time.time(), tags=tags)


async def _fetch(services: Services, form: Form, job_id: str, settings: Settings) -> str:
    if "url" not in form.fields:
        raise Problem(422, "form", "the form has no file", "send the file as the form field 'file', as curl -F does")
    return await fetch(
        form.fields["url"].strip(),
        services.storage.incoming(job_id),
        hosts=services.args.url_hosts,
        private=services.args.url_private,
        max_bytes=settings.limits.max_bytes,
        stall_s=services.args.stall_s,
    )


async def _settings(services: Services, text: str) -> Settings:
    if not text.strip():
        return services.settings
    try:
        wanted = lowered(Settings.model_validate(json.loads(text)), services.settings)
    except ValidationError as error:
        raise Problem(422, "settings", plain(error), "/v1/settings has their names and this server's values") from None
    except (ValueError, RecursionError) as error:
        reason = f"not JSON: {error}" if isinstance(error, json.JSONDecodeError) else str(error)
        raise Problem(422, "settings", reason, "/v1/settings has their names and this server's values") from None
    there = [str(card["name"]) for card in await services.detectors()] if wanted.detectors else []
    for name in wanted.detectors or ():
        if name not in there:
            near = difflib.get_close_matches(name, there, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(there) or 'none'}"
            raise Problem(422, "settings", f"no detector here is called {name[:60]!r}", hint)
    return wanted


def _tags(text: str) -> tuple[str, ...]:
    tags = [tag.strip() for tag in text.split(",") if tag.strip()]
    try:
        return tuple(TagsChange(tags=tags).tags)
    except ValidationError as error:
        raise Problem(422, "form", plain(error), "at most 20 tags of 40 characters") from None


@router.get("/v1/analyses", response_model=Listing)
async def analyses(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="part of the name")] = "",
    tag: Annotated[str, Query(max_length=40)] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Listing:
    """Analyses, newest first."""
    found, total = await asyncio.to_thread(_services(request).store.listing, q, tag, limit, offset)
    return Listing(total=total, analyses=[summary(job) for job in found])


@router.get("/v1/analyses/{job_id}", response_model=View, responses=_REFUSALS)
async def analysis(request: Request, job_id: JobId) -> Response:
    """Status, progress and, when it is done, the result."""
    services = _services(request)
    job = await _job(services, job_id)
    result = await asyncio.to_thread(services.store.result, job_id) if job.status == "done" else None
    # The stored result is JSON already; parsing a long video's only to write it again would cost a tenth of a second.
    body = f'{summary(job).model_dump_json()[:-1]},"result":{result or "null"}}}'
    return Response(body, media_type="application/json")


@router.patch("/v1/analyses/{job_id}", response_model=Summary, responses=_REFUSALS)
async def change_tags(request: Request, job_id: JobId, change: TagsChange) -> Summary:
    """Replace the tags."""
    services = _services(request)
    await _job(services, job_id)
    await asyncio.to_thread(services.store.set_tags, job_id, change.tags)
    return summary(await _job(services, job_id))


@router.delete("/v1/analyses/{job_id}", status_code=204, responses=_REFUSALS)
async def delete(request: Request, job_id: JobId) -> Response:
    """Delete the media, the artifacts and the result.

    One that waits or runs is cancelled: its files go, its record stays as cancelled until it is deleted again.
    """
    services = _services(request)
    await _job(services, job_id)
    if not await asyncio.to_thread(services.store.cancel, job_id):
        await asyncio.to_thread(services.store.delete, job_id)
    await asyncio.to_thread(services.storage.delete, job_id)
    return Response(status_code=204)


@router.get(
    "/v1/analyses/{job_id}/events",
    response_class=StreamingResponse,
    responses={**_REFUSALS, 200: {"content": {"text/event-stream": {}}}, 503: {"model": ErrorAnswer}},
)
async def events(request: Request, job_id: JobId) -> Response:
    """Server-sent events: `progress` at every change, then one `end` with the status, and the stream closes."""
    services = _services(request)
    if services.streams >= services.args.max_event_streams:
        raise busy(f"{services.streams} progress streams are open already", RETRY_AFTER_S)
    services.streams += 1
    try:
        job = await _job(services, job_id)
    except BaseException:
        services.streams -= 1
        raise

    async def stream() -> AsyncIterator[str]:
        try:
            async for text in _changes(services, job):
                yield text
        finally:
            services.streams -= 1

    return StreamingResponse(
        stream(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )


async def _changes(services: Services, job: Job) -> AsyncIterator[str]:
    began = spoke = time.monotonic()
    wait = FIRST_LOOK_S
    shown: tuple[object, ...] = ()
    current: Job | None = job
    while current is not None and current.status not in FINAL:
        now = (current.status, current.stage, round(current.share, 3))
        if now != shown:
            shown, spoke, wait = now, time.monotonic(), FIRST_LOOK_S
            yield _event("progress", current)
        elif time.monotonic() - spoke > HEARTBEAT_S:
            spoke = time.monotonic()
            yield ": still here\n\n"
        await asyncio.sleep(wait)
        if time.monotonic() - began > 1:  # an image is done by then, and a longer analysis may be told a little later
            wait = min(wait * 1.3, 0.3)
        current = await asyncio.to_thread(services.store.get, job.id)
    if current is None:
        yield f"event: end\ndata: {json.dumps({'id': job.id, 'status': 'deleted'})}\n\n"
    else:
        yield _event("end", current)


def _event(kind: str, job: Job) -> str:
    return f"event: {kind}\ndata: {summary(job).model_dump_json()}\n\n"


@router.get(
    "/v1/analyses/{job_id}/artifacts/{name:path}",
    response_class=FileResponse,
    responses={**_REFUSALS, 200: {"content": {kind: {} for kind in TYPES.values()}}},
)
async def artifact(request: Request, job_id: JobId, name: str) -> Response:
    """A picture that the result names: a face, a crop or a heatmap."""
    path = await asyncio.to_thread(_services(request).storage.artifact, job_id, name)
    if path is None:
        raise Problem(404, "not_found", "there is no such artifact", "the result names those that there are")
    return FileResponse(
        path,
        media_type=TYPES[path.suffix],
        headers={"Cache-Control": "private, max-age=3600", "Content-Security-Policy": "default-src 'none'; sandbox"},
    )


@router.get("/v1/detectors")
async def detectors(request: Request) -> list[dict[str, Any]]:
    """The detectors that take part, with their method, paper, weights, licence and measured figures."""
    return await _services(request).detectors()


@router.get("/v1/settings", response_model=Settings)
async def settings(request: Request) -> Settings:
    """What an analysis runs with unless its form says otherwise; limits can be lowered, not raised."""
    return _services(request).settings


@router.get("/healthz", response_model=Health)
async def healthz() -> Health:
    """The gateway answers."""
    return Health(status="ok")


@router.get("/readyz", response_model=Health, responses={503: {"model": Health}})
async def readyz(request: Request) -> Response:
    """Every part of the graph answers; 503 with the parts that do not."""
    parts = await _services(request).ready()
    ok = bool(parts) and all(parts.values())
    health = Health(status="ok" if ok else "not_ready", parts=parts)
    return JSONResponse(health.model_dump(), 200 if ok else 503)


def create_app(services: Services) -> FastAPI:
    """The API over these services."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(services.storage.sweep)
        yield

    app = FastAPI(title="unmask", version="1", description="Deepfake forensics: upload, follow, read the verdict.")
    app.router.lifespan_context = lifespan
    app.state.services = services
    install(app)
    app.include_router(router)

    app.add_middleware(_Guard)
    return app


class _Guard:
    """Headers on every answer, and no changes from pages of other sites; plain ASGI, so streams stay streams."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["X-Content-Type-Options"] = "nosniff"
                headers["X-Frame-Options"] = "DENY"
                headers["Referrer-Policy"] = "no-referrer"
            await send(message)

        # A page of another site must not upload, change or delete through the browser of someone who runs unmask here.
        if scope["method"] not in ("GET", "HEAD") and Headers(scope=scope).get("sec-fetch-site") == "cross-site":
            refusal = answer(403, "cross_site", "requests from other sites are refused", "open unmask's own page")
            await refusal(scope, receive, guarded)
            return
        await self._app(scope, receive, guarded)
