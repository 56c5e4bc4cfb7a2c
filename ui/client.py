"""One small client of the API, for both pages, the demo launcher and tests."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote

import httpx

from detectors.result import AnalysisResult

DEFAULT_API = "http://127.0.0.1:8000"
POLL_S = 0.5
UPLOAD_TIMEOUT_S = 600.0
"""A long video over a slow line."""


class ApiError(Exception):
    """An answer that is an error, or none at all. `reason` names what is wrong, `hint` the way out."""

    def __init__(self, code: str, reason: str, hint: str = "") -> None:
        super().__init__(f"{reason}; {hint}" if hint else reason)
        self.code = code
        self.reason = reason
        self.hint = hint


@dataclass(frozen=True)
class Progress:
    """`status`: queued, running, done, failed. `stage` as in ui.words.STAGES, `share` 0..1 of that stage; `detectors`:
    of each that has begun, its share of the faces. `answer`: of the last, what `Client.status` would answer, if it came
    along."""

    status: str
    stage: str
    share: float
    detectors: Mapping[str, float] = field(default_factory=dict)
    answer: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)

    @property
    def ended(self) -> bool:
        return self.status in ("done", "failed", "cancelled", "deleted")


class Client:
    """Calls raise ApiError, also where nothing answers. `token`: by default what UNMASK_TOKEN holds."""

    def __init__(
        self, api: str = DEFAULT_API, transport: httpx.BaseTransport | None = None, token: str | None = None
    ) -> None:
        self.api = api.rstrip("/")
        token = os.environ.get("UNMASK_TOKEN", "") if token is None else token
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        timeout = httpx.Timeout(30.0, connect=5.0, write=UPLOAD_TIMEOUT_S)
        # A proxy of the environment has no business between two processes of one machine.
        local = httpx.URL(self.api).host in ("127.0.0.1", "localhost", "::1")
        self._http = httpx.Client(
            base_url=self.api, timeout=timeout, transport=transport, trust_env=not local, headers=headers
        )

    def submit(
        self,
        media: Path | bytes | BinaryIO,
        name: str = "",
        settings: dict[str, Any] | None = None,
        again: bool = False,
    ) -> str:
        """Upload an image or a video, streamed from disk where it is a path; the id of the analysis.

        `settings`: keys of preprocessing.settings.Settings that the API lets a caller set. What was analysed before is
        answered with that, unless `again`.
        """
        data = ({"settings": json.dumps(settings)} if settings else {}) | ({"again": "1"} if again else {})
        if not isinstance(media, Path):
            return str(self._json("POST", "/v1/analyses", files={"file": (name or "upload", media)}, data=data)["id"])
        try:
            with media.open("rb") as file:
                return self.submit(file, name or media.name, settings, again)
        except OSError as error:
            raise ApiError("missing", f"{media} cannot be read: {error.strerror}") from None

    def watch(self, analysis: str) -> Iterator[Progress]:
        """Progress until the analysis has ended; by server-sent events, by asking where no stream is to be had."""
        last: Progress | None = None
        try:
            for last in self._events(analysis):
                yield last
                if last.ended:
                    return
        except (ApiError, httpx.HTTPError):
            pass
        while last is None or not last.ended:
            now = _progress(self.status(analysis))
            if now != last:
                yield now
            last = now
            if not now.ended:
                time.sleep(POLL_S)

    def _events(self, analysis: str) -> Iterator[Progress]:
        address, timeout = f"/v1/analyses/{quote(analysis)}/events", httpx.Timeout(10, read=60)
        with self._http.stream("GET", address, params={"result": "1"}, timeout=timeout) as answer:
            if answer.status_code != 200:
                answer.read()
                raise _error(answer)
            for line in answer.iter_lines():
                if line.startswith("data:"):
                    yield _progress(json.loads(line[5:]))

    def status(self, analysis: str) -> dict[str, Any]:
        """id, status, progress, and error or result."""
        return self._json("GET", f"/v1/analyses/{quote(analysis)}")

    def analyses(self, query: str = "") -> list[dict[str, Any]]:
        """The newest analyses whose name contains `query`, without their results."""
        return list(self._json("GET", "/v1/analyses", params={"q": query})["analyses"])

    def page(
        self, query: str = "", tag: str = "", limit: int = 50, offset: int = 0, outcome: str = ""
    ) -> tuple[list[dict[str, Any]], int]:
        """A page of analyses, newest first, without their results; and how many match in all. `query`: part of the name
        or the notes; `outcome`: a verdict, or a status."""
        asked = {"q": query, "tag": tag, "limit": limit, "offset": offset} | ({"outcome": outcome} if outcome else {})
        found = self._json("GET", "/v1/analyses", params=asked)
        return list(found["analyses"]), int(found["total"])

    def set_tags(self, analysis: str, tags: list[str]) -> None:
        """Replace its tags."""
        self._send("PATCH", f"/v1/analyses/{quote(analysis)}", json={"tags": tags})

    def set_notes(self, analysis: str, notes: str) -> None:
        """Replace its notes."""
        self._send("PATCH", f"/v1/analyses/{quote(analysis)}", json={"notes": notes})

    def result(self, analysis: str, ended: Progress | None = None) -> AnalysisResult:
        """The result of an analysis that has ended; `ended`, the last of `watch`, spares a question where it has it.

        Raises ApiError with the reason where it failed.
        """
        told = ended.answer if ended is not None else None
        return result_of(told or self.status(analysis), analysis)

    def analyse(self, media: Path | bytes, name: str = "") -> AnalysisResult:
        """Submit, wait, result."""
        analysis = self.submit(media, name)
        ended = None
        for progress in self.watch(analysis):
            ended = progress
        return self.result(analysis, ended)

    def artifact(self, analysis: str, name: str) -> bytes:
        """A file that the result names."""
        return self._send("GET", f"/v1/analyses/{quote(analysis)}/artifacts/{quote(name)}").content

    def media(self, analysis: str, file: Path, max_bytes: int | None = None) -> None:
        """Write the bytes that were analysed into `file`; ApiError "too_large" for more than `max_bytes`."""
        try:
            with self._http.stream("GET", f"/v1/analyses/{quote(analysis)}/media") as answer, file.open("wb") as out:
                if answer.is_error:
                    answer.read()
                    raise _error(answer)
                size = int(answer.headers.get("content-length", 0))
                if max_bytes is not None and size > max_bytes:
                    raise ApiError("too_large", f"it has {size >> 20} MiB, more than {max_bytes >> 20}")
                for part in answer.iter_bytes(1 << 20):
                    out.write(part)
        except httpx.HTTPError as error:
            raise ApiError("connection", f"the connection to {self.api} broke: {error}", "try again") from None

    def detectors(self) -> list[dict[str, Any]]:
        """The detectors with their cards."""
        found: Any = self._json("GET", "/v1/detectors")
        return found["detectors"] if isinstance(found, dict) else found

    def caller(self) -> dict[str, str]:
        """Who this client is to the API: name, role."""
        return self._json("GET", "/v1/caller")

    def operations(self) -> dict[str, Any]:
        """The service now: serve.operations.Operations as JSON. For operators."""
        return self._json("GET", "/v1/operations")

    def delete(self, analysis: str) -> None:
        """Delete an analysis with its upload and pictures."""
        self._send("DELETE", f"/v1/analyses/{quote(analysis)}")

    def ready(self) -> bool:
        """Whether the API takes work."""
        try:
            return self._http.get("/readyz", timeout=2.0).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _json(self, method: str, path: str, **more: Any) -> dict[str, Any]:
        answer = self._send(method, path, **more)
        try:
            return answer.json()
        except ValueError:
            raise ApiError("not_api", f"{self.api} does not answer like unmask's API", "check the address") from None

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            answer = self._http.request(method, path, **more)
        except httpx.ConnectError:
            way = "start it with `unmask serve`, or give the address of one that runs (--api)"
            raise ApiError("no_api", f"nothing answers at {self.api}", way) from None
        except httpx.TimeoutException:
            raise ApiError("timeout", f"{self.api} did not answer in time", "it may be busy: try again") from None
        except httpx.HTTPError as error:
            raise ApiError("connection", f"the connection to {self.api} broke: {error}", "try again") from None
        if answer.is_error:
            raise _error(answer)
        return answer


def result_of(found: Mapping[str, Any], analysis: str) -> AnalysisResult:
    """The result in what `Client.status` answered. Raises ApiError where there is none, with the reason."""
    if found.get("error"):
        error = found["error"]
        raise ApiError(error.get("code", "failed"), error.get("reason", "the analysis failed"), error.get("hint", ""))
    if not found.get("result"):
        raise ApiError("not_done", f"the analysis {analysis} is {found.get('status', 'not done')}")
    return AnalysisResult.model_validate(found["result"])


def _progress(message: dict[str, Any]) -> Progress:
    progress = message.get("progress") or message
    status = str(message.get("status", "running"))
    share, detectors = float(progress.get("share") or 0.0), dict(progress.get("detectors") or {})
    answer = message if message.get("result") or message.get("error") else None
    return Progress(status, str(progress.get("stage", status)), share, detectors, answer)


def _error(answer: httpx.Response) -> ApiError:
    """The error JSON {code, reason, hint}, wherever in the body the server put it."""
    try:
        body = answer.json()
    except ValueError:
        body = {}
    found = body.get("error", body.get("detail", body)) if isinstance(body, dict) else {}
    if isinstance(found, dict) and "reason" in found:
        return ApiError(str(found.get("code", answer.status_code)), str(found["reason"]), str(found.get("hint", "")))
    wait = answer.headers.get("retry-after")
    hint = f"try again in {wait} s" if wait else ""
    said = found if isinstance(found, str) and found else answer.reason_phrase or "no reason given"
    return ApiError(f"http_{answer.status_code}", f"the API answered {answer.status_code}: {said}", hint)
