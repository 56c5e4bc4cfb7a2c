"""What the API answers: an analysis, a page of them, health."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from detectors.result import AnalysisResult
from preprocessing.settings import Settings
from serve.access import Role
from serve.problems import ErrorAnswer, ErrorBody
from serve.store import Job, Priority, Status

Tag = Annotated[str, Field(min_length=1, max_length=40, pattern=r"^[^\x00-\x1f,]+$")]


class Progress(BaseModel):
    """The stage that runs and its share done, 0..1; of each detector that has begun, its share of the faces."""

    stage: str
    share: float
    detectors: dict[str, float] = {}


class Accepted(BaseModel):
    """An upload that was accepted; `reused`: the same was analysed before, and that is the answer."""

    id: str
    status: Status
    reused: bool = False


class Summary(BaseModel):
    """An analysis without its result. Times are seconds since 1970; `token` is the name of the one who asked."""

    id: str
    name: str
    status: Status
    progress: Progress
    created: float
    started: float | None
    finished: float | None
    attempts: int
    priority: Priority
    token: str
    tags: list[str]
    notes: str
    verdict: str | None
    score: float | None
    error: ErrorBody | None


class View(Summary):
    """An analysis; `settings` is what it runs with, `result` is there when `status` is done."""

    settings: Settings
    result: AnalysisResult | None


class Listing(BaseModel):
    """A page of analyses, newest first; `total` counts all that match."""

    total: int
    analyses: list[Summary]


class Change(BaseModel):
    """The tags or the notes that an analysis shall have from now on; what is not given stays."""

    model_config = ConfigDict(extra="forbid")
    tags: list[Tag] | None = Field(None, max_length=20)
    notes: Annotated[str, Field(max_length=4000, pattern=r"^[^\x00]*$")] | None = None


class Whoever(BaseModel):
    """Who asks: the token's name, "" on a machine without tokens, where everyone is the operator."""

    name: str
    role: Role


class Health(BaseModel):
    """`parts`: each deployment of the graph and whether it answers."""

    status: Literal["ok", "not_ready"]
    parts: dict[str, bool] = {}


def summary(job: Job) -> Summary:
    """A job as the API shows it."""
    error = ErrorBody(code=job.error.code, reason=job.error.reason, hint=job.error.hint) if job.error else None
    return Summary(
        id=job.id,
        name=job.name,
        status=job.status,
        progress=Progress(stage=job.stage, share=round(job.share, 4), detectors=json.loads(job.detectors)),
        created=job.created,
        started=job.started,
        finished=job.finished,
        attempts=job.attempts,
        priority=job.priority,
        token=job.token,
        tags=list(job.tags),
        notes=job.notes,
        verdict=job.verdict,
        score=job.score,
        error=error,
    )


REFUSALS: dict[int | str, dict[str, Any]] = {404: {"model": ErrorAnswer}}
UPLOAD_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorAnswer} for status in (401, 403, 408, 413, 415, 422, 429, 503, 507)
}
UPLOAD_BODY = {
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
                        "priority": {"type": "string", "enum": ["interactive", "batch"]},
                        "again": {"type": "string", "description": "1: analyse it even where that was done before"},
                    },
                }
            }
        },
    }
}
