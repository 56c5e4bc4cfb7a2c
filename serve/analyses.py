"""The routes of analyses: upload, follow, read, change, delete."""

from __future__ import annotations

import asyncio
import difflib
import hashlib
import json
import time
from collections.abc import AsyncIterator
from importlib.metadata import version
from pathlib import Path as FilePath
from typing import Annotated, Literal, cast, get_args

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse, StreamingResponse
from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from detectors.result import AnalysisResult
from preprocessing.media import probe
from preprocessing.settings import Settings
from serve.access import Caller
from serve.answers import (
    REFUSALS,
    UPLOAD_BODY,
    UPLOAD_REFUSALS,
    Accepted,
    Change,
    Listing,
    Summary,
    View,
    summary,
)
from serve.fetch import fetch
from serve.problems import ErrorAnswer, Problem, busy
from serve.services import Services, caller_of, job_of, services_of
from serve.settings import RETRY_AFTER_S, lowered, plain
from serve.storage import TYPES, new_id
from serve.store import FINAL, Job, JobStore, Priority, QueueFull
from serve.tracing import during
from serve.uploads import Form, display_name, receive_form

FIELDS = ("file", "url", "settings", "name", "tags", "priority", "again")
HEARTBEAT_S = 15.0
LOOKS_S = (0.006, 0.15)
"""Between two looks at whether something was written: while an image may end; of a longer analysis that stands."""
QUESTIONS_S = (0.02, 0.3)
"""The same where a look is a question to another machine."""

_FOR_THE_CALLER_ALONE = {
    "Cache-Control": "private, max-age=3600",
    "Content-Security-Policy": "default-src 'none'; sandbox",
}
"""Of files: what was uploaded, or made from that, is never run by a browser nor kept by a proxy."""

router = APIRouter()
JobId = Annotated[str, Path(pattern="^[0-9a-f]{32}$", description="the id that POST gave")]


@router.post(
    "/v1/analyses",
    status_code=202,
    response_model=Accepted,
    responses={200: {"model": Accepted, "description": "What was analysed before"}, **UPLOAD_REFUSALS},
    openapi_extra=UPLOAD_BODY,
)
async def analyse(request: Request) -> Response:
    """Take an image or a video, check its header, and queue it; the address of the analysis is in Location.

    What the caller had analysed before, with the same settings and by the same weights, is answered with that (200).
    """
    services, caller = services_of(request), caller_of(request)
    # What comes in will wait too: refused now, and not when it has been received and its header read.
    if await asyncio.to_thread(services.store.queued) + services.uploads >= services.args.max_queued:
        raise busy(f"{services.args.max_queued} analyses are waiting or coming in already", RETRY_AFTER_S)
    if services.uploads >= services.args.max_uploads:
        raise busy(f"{services.uploads} uploads are coming in already", RETRY_AFTER_S)
    request.app.state.gate.upload(caller)
    job_id = new_id()
    services.uploads += 1
    kept = False
    try:
        if await asyncio.to_thread(services.storage.free_bytes) < services.args.min_free_bytes:
            raise Problem(507, "storage", "the server's storage is full", "tell its operator; delete analyses")
        job, again = await _receive(services, request, caller, job_id)
        before = None if again or not job.key else await asyncio.to_thread(_answered, services.store, job)
        if before is not None:
            return await _reused(services, before, job)
        await _check_quota(services, caller, job.size)
        await asyncio.to_thread(services.storage.keep, job_id)
        # The same may have come a second time meanwhile: the store lets one of them in.
        taken = await asyncio.to_thread(services.store.create, job, services.args.max_queued, not again)
        if taken.id != job_id:
            return await _reused(services, taken, job)
        kept = True
    except QueueFull:
        raise busy(f"{services.args.max_queued} analyses are waiting already", RETRY_AFTER_S) from None
    finally:
        services.uploads -= 1
        if not kept:
            await asyncio.shield(asyncio.to_thread(services.storage.delete, job_id))
    with during(job_id, "accepted", bytes=job.size, token=job.token):
        services.notify()
    return _accepted(Accepted(id=job_id, status="queued"), 202)


def _answered(store: JobStore, job: Job) -> Job | None:
    """The analysis that gives or will give the same answer; none where a detector failed in it: it might not again."""
    before = store.same(job.token, job.key)
    if before is None or before.status != "done":
        return before
    try:
        result = AnalysisResult.model_validate_json(store.result(before.id) or "")
    except ValidationError:  # of another version
        return None
    failed = any(one.status in ("failed", "timeout") for face in result.faces for one in face.detectors.values())
    return None if failed or result.incomplete else before


async def _reused(services: Services, before: Job, asked: Job) -> Response:
    if asked.priority == "interactive" and before.priority == "batch":
        await asyncio.to_thread(services.store.watch, before.id)
    return _accepted(Accepted(id=before.id, status=before.status, reused=True), 200)


def _accepted(accepted: Accepted, status: int) -> Response:
    return JSONResponse(accepted.model_dump(), status, headers={"Location": f"/v1/analyses/{accepted.id}"})


async def _check_quota(services: Services, caller: Caller, size: int) -> None:
    if caller.max_bytes is None:
        return
    used = await asyncio.to_thread(services.store.used, caller.name)
    if used + size > caller.max_bytes:
        raise Problem(413, "quota", f"this token keeps {used} bytes of media and may keep {caller.max_bytes}",
                      "delete analyses that are not needed any more")  # fmt: skip


async def _receive(services: Services, request: Request, caller: Caller, job_id: str) -> tuple[Job, bool]:
    """The upload on disk, its form and header checked, as a job that is not yet stored; whether it is to be analysed
    even if it was before."""
    path = services.storage.incoming(job_id)
    operator = services.settings
    args = services.args
    form = await receive_form(request, path, operator.limits.max_bytes, args.stall_s, args.upload_s)
    if unknown := [name for name in form.fields if name not in FIELDS]:
        near = difflib.get_close_matches(unknown[0], FIELDS, n=1)
        raise Problem(422, "form", f"unknown field {unknown[0][:40]!r}", f"did you mean {near[0]!r}?" if near else "")
    settings = await _settings(services, form.fields.get("settings", ""))
    tags = _tags(form.fields.get("tags", ""))
    priority = form.fields.get("priority", "interactive")
    if priority not in get_args(Priority):
        raise Problem(422, "form", f"priority {priority[:40]!r}", f"one of: {', '.join(get_args(Priority))}")
    name = form.file_name
    if name is None:
        name = await _fetch(services, form, job_id, settings)
    elif "url" in form.fields:
        raise Problem(422, "form", "the form has a file and a url", "send one of them")
    async with services.probes:
        await asyncio.to_thread(probe, path, settings.limits)
    if wanted := form.fields.get("name", "").strip():
        name = display_name(wanted)
    key, size = await _key(services, path, settings)
    job = Job(
        job_id, name, settings.model_dump_json(), time.time(), tags=tags, token=caller.name, key=key,
        priority=cast("Priority", priority), size=size,
    )  # fmt: skip
    return job, form.fields.get("again", "").strip() not in ("", "0")


async def _key(services: Services, path: FilePath, settings: Settings) -> tuple[str, int]:
    """Equal for what would give the same answer, empty while the weights are not known; and the media's bytes."""
    size = path.stat().st_size
    try:
        weights = [json.dumps(card, sort_keys=True, default=str) for card in await services.detectors()]
    except Problem:
        return "", size
    with path.open("rb") as file:
        media = await asyncio.to_thread(hashlib.file_digest, file, "sha256")
    told = [media.hexdigest(), settings.model_dump_json(), *weights, version("unmask-forensics")]
    return hashlib.sha256("\n".join(told).encode()).hexdigest(), size


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
        return tuple(Change(tags=tags).tags or ())
    except ValidationError as error:
        raise Problem(422, "form", plain(error), "at most 20 tags of 40 characters") from None


@router.get("/v1/analyses", response_model=Listing)
async def analyses(
    request: Request,
    q: Annotated[str, Query(max_length=200, description="part of the name or of the notes")] = "",
    tag: Annotated[str, Query(max_length=40)] = "",
    outcome: Annotated[
        Literal["", "real", "fake", "inconclusive", "no_face", "failed", "cancelled", "queued", "running"],
        Query(description="a verdict, or the status of one without"),
    ] = "",
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    offset: Annotated[int, Query(ge=0, le=2**31)] = 0,
) -> Listing:
    """Analyses, newest first."""
    sees = caller_of(request).sees
    found, total = await asyncio.to_thread(services_of(request).store.listing, q, tag, limit, offset, sees, outcome)
    return Listing(total=total, analyses=[summary(job) for job in found])


@router.get("/v1/analyses/{job_id}", response_model=View, responses=REFUSALS)
async def analysis(request: Request, job_id: JobId) -> Response:
    """Status, progress and, when it is done, the result."""
    services = services_of(request)
    job = await job_of(request, job_id)
    return Response(await _whole(services, job), media_type="application/json")


async def _whole(services: Services, job: Job) -> str:
    """A View as JSON, in one line."""
    result = await asyncio.to_thread(services.store.result, job.id) if job.status == "done" else None
    # The stored result is JSON already; parsing a long video's only to write it again would cost a tenth of a second.
    return f'{summary(job).model_dump_json()[:-1]},"settings":{job.settings},"result":{result or "null"}}}'


@router.patch("/v1/analyses/{job_id}", response_model=Summary, responses=REFUSALS)
async def change(request: Request, job_id: JobId, change: Change) -> Summary:
    """Replace the tags, the notes, or both."""
    services = services_of(request)
    await job_of(request, job_id)
    if change.tags is not None:
        await asyncio.to_thread(services.store.set_tags, job_id, change.tags)
    if change.notes is not None:
        await asyncio.to_thread(services.store.set_notes, job_id, change.notes)
    return summary(await job_of(request, job_id))


@router.delete("/v1/analyses/{job_id}", status_code=204, responses=REFUSALS)
async def delete(request: Request, job_id: JobId) -> Response:
    """Delete the media, the artifacts and the result.

    One that waits or runs is cancelled: its files go, its record stays as cancelled until it is deleted again.
    """
    services = services_of(request)
    await job_of(request, job_id)
    if not await asyncio.to_thread(services.store.cancel, job_id):
        await asyncio.to_thread(services.store.delete, job_id)
    await asyncio.to_thread(services.storage.delete, job_id)
    return Response(status_code=204)


@router.get(
    "/v1/analyses/{job_id}/events",
    response_class=StreamingResponse,
    responses={**REFUSALS, 200: {"content": {"text/event-stream": {}}}, 503: {"model": ErrorAnswer}},
)
async def events(
    request: Request,
    job_id: JobId,
    result: Annotated[bool, Query(description="the end has the result too")] = False,
) -> Response:
    """Server-sent events: `progress` at every change, then one `end` with the status, and the stream closes.

    With `result` the end is the whole analysis, as /v1/analyses/{job_id} answers it, which need not be asked then.
    """
    services = services_of(request)
    job = await job_of(request, job_id)
    if services.streams >= services.args.max_event_streams:
        raise busy(f"{services.streams} progress streams are open already", RETRY_AFTER_S)
    return EventStream(services, job, result)


class EventStream(StreamingResponse):
    """Counted for as long as it is answered, also where the client leaves before the first event."""

    def __init__(self, services: Services, job: Job, whole: bool = False) -> None:
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(_changes(services, job, whole), media_type="text/event-stream", headers=headers)
        self._services = services

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._services.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._services.streams -= 1


async def _changes(services: Services, job: Job, whole: bool) -> AsyncIterator[str]:
    began = spoke = time.monotonic()
    shown: tuple[object, ...] = ()
    current: Job | None = job
    seen: int | None = None  # not the version now: something may have been written since `job` was read
    first, longest = QUESTIONS_S if services.store.shared else LOOKS_S
    pause = first

    def silent(since: float) -> bool:
        return time.monotonic() - since > HEARTBEAT_S

    while current is not None and current.status not in FINAL:
        now = (current.status, current.stage, round(current.share, 3), current.detectors)
        if now != shown:
            shown, spoke, pause = now, time.monotonic(), first
            yield _event("progress", summary(current).model_dump_json())
        elif silent(spoke):
            spoke = time.monotonic()
            yield ": still here\n\n"
        while True:
            await asyncio.sleep(pause)
            if time.monotonic() - began > 1:  # an image is done by then; a longer analysis may be told a little later
                pause = min(pause * 1.3, longest)
            written = services.store.version()
            if written is None or written != seen or silent(spoke):
                break
        seen = written
        current = await asyncio.to_thread(services.store.get, job.id)
    if current is None:
        yield _event("end", json.dumps({"id": job.id, "status": "deleted"}))
    else:
        yield _event("end", await _whole(services, current) if whole else summary(current).model_dump_json())


def _event(kind: str, data: str) -> str:
    return f"event: {kind}\ndata: {data}\n\n"


@router.get(
    "/v1/analyses/{job_id}/artifacts/{name:path}",
    response_class=FileResponse,
    responses={**REFUSALS, 200: {"content": {kind: {} for kind in TYPES.values()}}},
)
async def artifact(request: Request, job_id: JobId, name: str) -> Response:
    """A file that the result names: a face, a crop, a heatmap, a track's landmarks."""
    await job_of(request, job_id)
    path = await asyncio.to_thread(services_of(request).storage.artifact, job_id, name)
    if path is None:
        raise Problem(404, "not_found", "there is no such artifact", "the result names those that there are")
    return FileResponse(
        path,
        media_type=TYPES[path.suffix],
        headers=_FOR_THE_CALLER_ALONE,
    )


@router.get(
    "/v1/analyses/{job_id}/media",
    response_class=FileResponse,
    responses={**REFUSALS, 200: {"content": {"application/octet-stream": {}}}},
)
async def media(request: Request, job_id: JobId) -> Response:
    """The very bytes that were analysed; in parts where the request has a range."""
    job = await job_of(request, job_id)
    path = services_of(request).storage.media(job_id)
    if not await asyncio.to_thread(path.is_file):
        raise Problem(404, "not_found", "the media is not there any more", "it was deleted; upload it again")
    return FileResponse(path, media_type="application/octet-stream", filename=job.name, headers=_FOR_THE_CALLER_ALONE)
