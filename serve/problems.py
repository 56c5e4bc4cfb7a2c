"""Refusals of the API: one shape, `{"error": {code, reason, hint}}`, and never a stack trace."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.types import Scope

from preprocessing.errors import MediaError

log = logging.getLogger("unmask.api")


class Problem(Exception):
    """A request that is refused with this status."""

    def __init__(
        self, status: int, code: str, reason: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(reason)
        self.status, self.code, self.reason, self.hint = status, code, reason, hint
        self.headers = dict(headers or {})


class ErrorBody(BaseModel):
    """`code` is stable for scripts; `reason` names what is wrong and `hint` the way out."""

    code: str
    reason: str
    hint: str = ""


class ErrorAnswer(BaseModel):
    """What every refusal looks like."""

    error: ErrorBody


def busy(reason: str, retry_after_s: int) -> Problem:
    """503 with Retry-After."""
    hint = f"try again in {retry_after_s} s"
    return Problem(503, "overloaded", reason, hint, {"Retry-After": str(retry_after_s)})


def answer(
    status: int, code: str, reason: str, hint: str = "", headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The response of a refusal."""
    body = ErrorAnswer(error=ErrorBody(code=code, reason=reason, hint=hint))
    return JSONResponse(body.model_dump(), status, headers=dict(headers or {}))


def fault(scope: Scope, error: Exception) -> JSONResponse:
    """The answer where the program itself failed; the log has the details."""
    incident = uuid.uuid4().hex[:8]
    log.error("incident %s at %s %s", incident, scope["method"], scope["path"], exc_info=error)
    return answer(500, "internal", "something went wrong on the server", f"its log has the details under {incident}")


_PLAIN = {
    404: ("not_found", "there is nothing at this address"),
    405: ("method", "this address does not take that method"),
}


def install(app: FastAPI) -> None:
    """Turn refusals of the app into an answer of the one shape; faults are the guard's, by `fault`."""

    async def problem(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, Problem)
        return answer(error.status, error.code, error.reason, error.hint, error.headers)

    async def media(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, MediaError)
        return answer(error.status, error.code, error.reason, error.hint)

    async def http(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, HTTPException)
        code, reason = _PLAIN.get(error.status_code, ("http", str(error.detail)))
        return answer(error.status_code, code, reason, "the addresses are listed at /docs", error.headers)

    async def invalid(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        return answer(422, "invalid", f"{where}: {first['msg']}", "see /docs for what this address takes")

    app.add_exception_handler(Problem, problem)
    app.add_exception_handler(MediaError, media)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(RequestValidationError, invalid)
