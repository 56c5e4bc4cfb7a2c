"""The job store: every analysis from queued to done, behind one interface; SQLite in one file by default.

A runner takes an analysis on a lease that its heartbeats extend. Where the heartbeats end, because the process died,
the analysis is taken again from the stored media; after a fixed number of attempts it fails with the reason.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["queued", "running", "done", "failed", "cancelled"]
FINAL = frozenset({"done", "failed", "cancelled"})


class QueueFull(Exception):
    """As many analyses wait as may."""


@dataclass(frozen=True)
class Failure:
    """Why an analysis failed: `code` for scripts, `reason` and `hint` for people."""

    code: str
    reason: str
    hint: str = ""


@dataclass(frozen=True)
class Job:
    """One analysis. Times are seconds since 1970. `settings` is JSON of preprocessing.settings.Settings."""

    id: str
    name: str
    settings: str
    created: float
    status: Status = "queued"
    stage: str = "queued"
    share: float = 0.0
    attempts: int = 0
    started: float | None = None
    finished: float | None = None
    error: Failure | None = None
    verdict: str | None = None
    score: float | None = None
    tags: tuple[str, ...] = ()


class JobStore(Protocol):
    """What gateway and runners need of a store. Methods block for milliseconds: call them from a thread."""

    def create(self, job: Job, max_queued: int) -> None:
        """Add a queued analysis. Raises QueueFull."""

    def get(self, job_id: str) -> Job | None: ...

    def result(self, job_id: str) -> str | None:
        """The JSON of the AnalysisResult of a done analysis."""

    def listing(self, query: str, tag: str, limit: int, offset: int) -> tuple[list[Job], int]:
        """Newest first, and how many there are in all; `query` is a part of the name."""

    def queued(self) -> int: ...

    def lease(self, owner: str, lease_s: float, max_attempts: int) -> Job | None:
        """The oldest analysis that waits or whose lease has run out, now running under `owner`."""

    def beat(self, owner: str, progress: Mapping[str, tuple[str, float]], lease_s: float) -> set[str]:
        """Extend the leases of `owner`, write progress; returns the analyses that are no longer its own."""

    def finish(self, job_id: str, owner: str, result: str, verdict: str, score: float | None) -> bool:
        """False where the analysis was cancelled or taken by another meanwhile; then nothing is written."""

    def fail(self, job_id: str, owner: str, error: Failure) -> bool: ...

    def give_back(self, job_id: str, owner: str) -> bool:
        """Queue an interrupted analysis again; the attempt counts."""

    def cancel(self, job_id: str) -> bool:
        """True where it was queued or running and is now cancelled."""

    def delete(self, job_id: str) -> None: ...

    def set_tags(self, job_id: str, tags: Sequence[str]) -> None: ...

    def close(self) -> None: ...


_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id TEXT PRIMARY KEY, name TEXT NOT NULL, settings TEXT NOT NULL, created REAL NOT NULL, status TEXT NOT NULL,
    stage TEXT NOT NULL, share REAL NOT NULL, attempts INTEGER NOT NULL, started REAL, finished REAL, error TEXT,
    verdict TEXT, score REAL, owner TEXT, lease_until REAL, result TEXT);
CREATE INDEX IF NOT EXISTS jobs_status ON jobs (status, created);
CREATE INDEX IF NOT EXISTS jobs_created ON jobs (created);
CREATE TABLE IF NOT EXISTS tags (job TEXT NOT NULL REFERENCES jobs (id) ON DELETE CASCADE, tag TEXT NOT NULL,
    PRIMARY KEY (job, tag));
"""
_COLUMNS = "id, name, settings, created, status, stage, share, attempts, started, finished, error, verdict, score"
VERSION = 1


class SQLiteStore:
    """A JobStore in one SQLite file in write-ahead mode, shared by the processes of one machine."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._db = sqlite3.connect(path, timeout=10, isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.execute("PRAGMA foreign_keys = ON")
        with self._write():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, VERSION):
                raise RuntimeError(f"{path} was made by another version of unmask (schema {version}, not {VERSION})")
            for statement in _SCHEMA.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {VERSION}")

    @contextmanager
    def _write(self) -> Any:
        # IMMEDIATE: a transaction that reads before it writes would else fail where another process wrote between.
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def create(self, job: Job, max_queued: int) -> None:
        with self._write():
            if self._count_queued() >= max_queued:
                raise QueueFull
            self._db.execute(
                "INSERT INTO jobs (id, name, settings, created, status, stage, share, attempts)"
                " VALUES (?, ?, ?, ?, 'queued', 'queued', 0, 0)",
                (job.id, job.name, job.settings, job.created),
            )
            self._tag(job.id, job.tags)

    def get(self, job_id: str) -> Job | None:
        found = self._jobs(self._rows(f"SELECT {_COLUMNS} FROM jobs WHERE id = ?", (job_id,)))
        return found[0] if found else None

    def result(self, job_id: str) -> str | None:
        rows = self._rows("SELECT result FROM jobs WHERE id = ?", (job_id,))
        return rows[0][0] if rows else None

    def listing(self, query: str, tag: str, limit: int, offset: int) -> tuple[list[Job], int]:
        pattern = "%" + query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
        where = "WHERE name LIKE ? ESCAPE '\\' AND (? = '' OR id IN (SELECT job FROM tags WHERE tag = ?))"
        values = (pattern, tag, tag)
        total = self._rows(f"SELECT COUNT(*) FROM jobs {where}", values)[0][0]
        sql = f"SELECT {_COLUMNS} FROM jobs {where} ORDER BY created DESC, id LIMIT ? OFFSET ?"
        return self._jobs(self._rows(sql, (*values, limit, offset))), total

    def _jobs(self, rows: Sequence[tuple[Any, ...]]) -> list[Job]:
        jobs = [_job(row) for row in rows]
        marks = ", ".join("?" * len(jobs))
        tags: dict[str, list[str]] = {job.id: [] for job in jobs}
        for job_id, tag in self._rows(f"SELECT job, tag FROM tags WHERE job IN ({marks}) ORDER BY tag", list(tags)):
            tags[job_id].append(tag)
        return [replace(job, tags=tuple(tags[job.id])) for job in jobs]

    def queued(self) -> int:
        with self._lock:
            return self._count_queued()

    def _count_queued(self) -> int:
        return int(self._db.execute("SELECT COUNT(*) FROM jobs WHERE status = 'queued'").fetchone()[0])

    def lease(self, owner: str, lease_s: float, max_attempts: int) -> Job | None:
        now = time.time()
        worn_out = Failure(
            "interrupted",
            f"the analysis was interrupted {max_attempts} times: the process that ran it died",
            "the server's log says why; analyse the file again, or a shorter part of it",
        )
        with self._write():
            self._db.execute(
                "UPDATE jobs SET status = 'failed', error = ?, finished = ?, owner = NULL WHERE attempts >= ?"
                " AND (status = 'queued' OR status = 'running' AND lease_until < ?)",
                (_dump(worn_out), now, max_attempts, now),
            )
            rows = self._db.execute(
                "UPDATE jobs SET status = 'running', owner = ?, lease_until = ?, attempts = attempts + 1, started = ?,"
                " stage = 'starting', share = 0 WHERE id = (SELECT id FROM jobs WHERE status = 'queued'"
                " OR status = 'running' AND lease_until < ? ORDER BY created, id LIMIT 1)"
                f" RETURNING {_COLUMNS}",
                (owner, now + lease_s, now, now),
            ).fetchall()
        return _job(rows[0]) if rows else None

    def beat(self, owner: str, progress: Mapping[str, tuple[str, float]], lease_s: float) -> set[str]:
        until = time.time() + lease_s
        with self._write():
            for job_id, (stage, share) in progress.items():
                self._db.execute(
                    "UPDATE jobs SET lease_until = ?, stage = ?, share = ?"
                    " WHERE id = ? AND owner = ? AND status = 'running'",
                    (until, stage, share, job_id, owner),
                )
            mine = self._db.execute("SELECT id FROM jobs WHERE owner = ? AND status = 'running'", (owner,)).fetchall()
        return set(progress) - {row[0] for row in mine}

    def finish(self, job_id: str, owner: str, result: str, verdict: str, score: float | None) -> bool:
        return self._end(
            job_id, owner, "status = 'done', stage = 'done', share = 1, result = ?, verdict = ?, score = ?",
            (result, verdict, score),
        )  # fmt: skip

    def fail(self, job_id: str, owner: str, error: Failure) -> bool:
        return self._end(job_id, owner, "status = 'failed', error = ?", (_dump(error),))

    def _end(self, job_id: str, owner: str, changes: str, values: tuple[Any, ...]) -> bool:
        with self._write():
            done = self._db.execute(
                f"UPDATE jobs SET {changes}, finished = ?, owner = NULL"
                " WHERE id = ? AND owner = ? AND status = 'running'",
                (*values, time.time(), job_id, owner),
            )
        return done.rowcount == 1

    def give_back(self, job_id: str, owner: str) -> bool:
        with self._write():
            done = self._db.execute(
                "UPDATE jobs SET status = 'queued', stage = 'queued', share = 0, owner = NULL"
                " WHERE id = ? AND owner = ? AND status = 'running'",
                (job_id, owner),
            )
        return done.rowcount == 1

    def cancel(self, job_id: str) -> bool:
        with self._write():
            done = self._db.execute(
                "UPDATE jobs SET status = 'cancelled', finished = ?, owner = NULL"
                " WHERE id = ? AND status IN ('queued', 'running')",
                (time.time(), job_id),
            )
        return done.rowcount == 1

    def delete(self, job_id: str) -> None:
        with self._write():
            self._db.execute("DELETE FROM jobs WHERE id = ?", (job_id,))

    def set_tags(self, job_id: str, tags: Sequence[str]) -> None:
        with self._write():
            self._db.execute("DELETE FROM tags WHERE job = ?", (job_id,))
            self._tag(job_id, tags)

    def _tag(self, job_id: str, tags: Sequence[str]) -> None:
        self._db.executemany("INSERT OR IGNORE INTO tags (job, tag) VALUES (?, ?)", [(job_id, tag) for tag in tags])

    def close(self) -> None:
        with self._lock:
            self._db.close()


def _dump(error: Failure) -> str:
    return json.dumps({"code": error.code, "reason": error.reason, "hint": error.hint})


def _job(row: tuple[Any, ...]) -> Job:
    values = dict(zip(_COLUMNS.split(", "), row, strict=True))
    if values["error"] is not None:
        values["error"] = Failure(**json.loads(values["error"]))
    return Job(**values)
