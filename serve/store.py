"""The job store: every analysis from queued to done, in SQLite (one file, one machine) or PostgreSQL (many machines).

A runner takes an analysis on a lease that its heartbeats extend. Where the heartbeats end, because the process died,
the analysis is taken again from the stored media; after a fixed number of attempts it fails with the reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import sqlalchemy as sa

Status = Literal["queued", "running", "done", "failed", "cancelled"]
Priority = Literal["interactive", "batch"]
FINAL = frozenset({"done", "failed", "cancelled"})
BATCH_WAITS_S = 900.0
"""So much longer than it has waited does one of a batch count as waiting: nobody who watches waits for a batch, and a
batch is not put off for ever."""


AWAY = (sa.exc.DBAPIError, sa.exc.TimeoutError)
"""What the store raises while its database is locked, restarts or cannot be reached: the same call may work later."""


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
    """One analysis. Times are seconds since 1970. `settings` is JSON of preprocessing.settings.Settings.

    `token`: the name of the one who asked; `key`: a hash of the media, the settings and the weights, equal for what
    would give the same answer; `size`: bytes of the media; `detectors`: JSON of the share of the faces that each
    detector has done; `notes`: what a person wrote about it.
    """

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
    token: str = ""
    key: str = ""
    priority: Priority = "interactive"
    size: int = 0
    detectors: str = "{}"
    notes: str = ""


@dataclass(frozen=True)
class Ended:
    """An analysis that ended: when, how, and its result's JSON where it has one; `code` is its failure's."""

    created: float
    started: float | None
    finished: float
    status: Status
    verdict: str | None
    code: str | None
    result: str | None


_METADATA = sa.MetaData()
_JOBS = sa.Table(
    "jobs",
    _METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("settings", sa.Text, nullable=False),
    sa.Column("created", sa.Double, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("stage", sa.Text, nullable=False),
    sa.Column("share", sa.Double, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("started", sa.Double),
    sa.Column("finished", sa.Double),
    sa.Column("error", sa.Text),
    sa.Column("verdict", sa.Text),
    sa.Column("score", sa.Double),
    sa.Column("token", sa.Text, nullable=False, server_default=""),
    sa.Column("key", sa.Text, nullable=False, server_default=""),
    sa.Column("priority", sa.Text, nullable=False, server_default="interactive"),
    sa.Column("size", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("detectors", sa.Text, nullable=False, server_default="{}"),
    sa.Column("notes", sa.Text, nullable=False, server_default=""),
    sa.Column("owner", sa.Text),
    sa.Column("lease_until", sa.Double),
    sa.Column("result", sa.Text),
    sa.Index("jobs_status", "status", "created"),
    sa.Index("jobs_created", "created"),
    sa.Index("jobs_key", "token", "key"),
)
_TAGS = sa.Table(
    "tags",
    _METADATA,
    sa.Column("job", sa.Text, sa.ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    sa.Column("tag", sa.Text, primary_key=True),
)
_SHOWN = [_JOBS.c[f.name] for f in fields(Job) if f.name != "tags"]
_ASKED = 500
"""Ids in one question: SQLite and PostgreSQL both bound how many there may be."""
_LOCK = 0x756E6D61
"""Of PostgreSQL's advisory locks: who counts and then adds does so alone. SQLite writes one at a time anyway."""


class JobStore:
    """Jobs in a database that SQLAlchemy knows. Methods block for milliseconds: call them from a thread."""

    def __init__(self, url: str | Path) -> None:
        """`url`: a path of an SQLite file, which is made, or an address as postgresql+psycopg://USER@HOST/NAME.

        Raises:
            ValueError: the database cannot be reached or opened.
        """
        local = isinstance(url, Path)
        if isinstance(url, Path):
            url.parent.mkdir(parents=True, exist_ok=True)
        address = sa.engine.make_url(f"sqlite:///{url}" if local else str(url))
        self.shared = address.get_backend_name() != "sqlite"
        """Whether other machines can reach it."""
        options: dict[str, Any] = {"pool_pre_ping": True} if self.shared else {"connect_args": {"timeout": 10}}
        try:
            self._engine = sa.create_engine(address, **options)
            if not self.shared:
                sa.event.listen(self._engine, "connect", _sqlite_connection)
                sa.event.listen(self._engine, "begin", _begin)
            with self._engine.begin() as db:
                self._alone(db)
                _METADATA.create_all(db)
                _add_columns(db)
        except (sa.exc.SQLAlchemyError, ImportError) as error:
            raise ValueError(
                f"the job store {address.render_as_string(hide_password=True)} cannot be used: {_last_line(error)}"
            ) from error
        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")
        self._watcher = None if self.shared else self._engine.raw_connection()

    def _alone(self, db: sa.Connection) -> None:
        if self.shared:
            db.execute(sa.select(sa.func.pg_advisory_xact_lock(_LOCK)))

    def create(self, job: Job, max_queued: int, reuse: bool = False) -> Job:
        """Add a queued analysis and return it; with `reuse` one of the same token and key that waits or runs already,
        instead of a second. Raises QueueFull."""
        with self._engine.begin() as db:
            self._alone(db)
            if reuse and job.key and (there := _jobs(db, _same(job.token, job.key, "queued", "running"))):
                return there[0]
            if _queued(db) >= max_queued:
                raise QueueFull
            row = {name: value for name, value in asdict(job).items() if name not in ("tags", "error")}
            db.execute(_JOBS.insert().values(row))
            _tag(db, job.id, job.tags)
        return job

    def get(self, job_id: str) -> Job | None:
        """None where there is no such analysis."""
        with self._reader.connect() as db:
            found = _jobs(db, sa.select(*_SHOWN).where(_JOBS.c.id == job_id))
        return found[0] if found else None

    def version(self) -> int | None:
        """Another number after each write of anybody; None where only asking tells (PostgreSQL). It takes microseconds
        and may be called from the event loop, whose thread alone may call it."""
        if self._watcher is None:
            return None
        return int(self._watcher.cursor().execute("PRAGMA data_version").fetchone()[0])

    def result(self, job_id: str) -> str | None:
        """The JSON of the AnalysisResult of a done analysis."""
        with self._reader.connect() as db:
            found: str | None = db.execute(sa.select(_JOBS.c.result).where(_JOBS.c.id == job_id)).scalar()
        return found

    def same(self, token: str, key: str) -> Job | None:
        """The newest analysis of that token and key that waits, runs or is done."""
        with self._reader.connect() as db:
            found = _jobs(db, _same(token, key, "queued", "running", "done"))
        return found[0] if found else None

    def watch(self, job_id: str) -> None:
        """Somebody waits for it: from now on it does not wait as one of a batch."""
        self._change(sa.and_(_JOBS.c.id == job_id, _JOBS.c.status == "queued"), {"priority": "interactive"})

    def listing(
        self, query: str, tag: str, limit: int, offset: int, token: str | None = None, outcome: str = ""
    ) -> tuple[list[Job], int]:
        """Newest first, and how many there are in all; `query` is a part of the name or the notes, `token` None:
        everybody's, `outcome` a verdict or a status."""
        where = [
            sa.or_(_JOBS.c.name.icontains(query, autoescape=True), _JOBS.c.notes.icontains(query, autoescape=True))
        ]
        if outcome:
            where.append(sa.or_(_JOBS.c.verdict == outcome, _JOBS.c.status == outcome))
        if tag:
            where.append(_JOBS.c.id.in_(sa.select(_TAGS.c.job).where(_TAGS.c.tag == tag)))
        if token is not None:
            where.append(_JOBS.c.token == token)
        ordered = sa.select(*_SHOWN).where(*where).order_by(_JOBS.c.created.desc(), _JOBS.c.id)
        with self._reader.connect() as db:
            total = db.execute(sa.select(sa.func.count()).select_from(_JOBS).where(*where)).scalar_one()
            return _jobs(db, ordered.limit(limit).offset(offset)), total

    def queued(self) -> int:
        """How many wait."""
        with self._reader.connect() as db:
            return _queued(db)

    def counts(self) -> dict[str, int]:
        """How many there are by status."""
        with self._reader.connect() as db:
            rows = db.execute(sa.select(_JOBS.c.status, sa.func.count()).group_by(_JOBS.c.status))
            return {str(status): int(count) for status, count in rows}

    def oldest_queued(self) -> float | None:
        """When the one that waits longest came; None where none waits."""
        with self._reader.connect() as db:
            found: float | None = db.execute(
                sa.select(sa.func.min(_JOBS.c.created)).where(_JOBS.c.status == "queued")
            ).scalar()
        return found

    def ended(self, limit: int, most_bytes: int) -> list[Ended]:
        """The newest that ended, newest first: at most `limit`, and no more than `most_bytes` of results."""
        columns = [_JOBS.c[name] for name in ("created", "started", "finished", "status", "verdict", "error", "result")]
        wanted = sa.select(*columns).where(_JOBS.c.finished.is_not(None)).order_by(_JOBS.c.finished.desc())
        found: list[Ended] = []
        with self._reader.connect() as db:
            for row in db.execution_options(stream_results=True).execute(wanted.limit(limit)):
                most_bytes -= len(row.result or "")
                if most_bytes < 0:
                    break
                code = json.loads(row.error)["code"] if row.error else None
                times = (row.created, row.started, row.finished)
                found.append(Ended(*times, row.status, row.verdict, code, row.result))
        return found

    def used(self, token: str) -> int:
        """Bytes of the media of that token's analyses; those that were cancelled have none any more."""
        kept = sa.and_(_JOBS.c.token == token, _JOBS.c.status != "cancelled")
        total = sa.select(sa.func.coalesce(sa.func.sum(_JOBS.c.size), 0)).where(kept)
        with self._reader.connect() as db:
            return int(db.execute(total).scalar_one())

    def expired(self, before: float) -> list[str]:
        """Analyses that ended before that time."""
        with self._reader.connect() as db:
            return list(db.execute(sa.select(_JOBS.c.id).where(_JOBS.c.finished < before)).scalars())

    def known(self, job_ids: Sequence[str]) -> set[str]:
        """Those of them that are analyses."""
        found: set[str] = set()
        with self._reader.connect() as db:
            for i in range(0, len(job_ids), _ASKED):
                found |= set(db.execute(sa.select(_JOBS.c.id).where(_JOBS.c.id.in_(job_ids[i : i + _ASKED]))).scalars())
        return found

    def lease(self, owner: str, lease_s: float, max_attempts: int) -> Job | None:
        """The first analysis that waits or whose lease has run out, now running under `owner`."""
        now = time.time()
        worn_out = Failure(
            "interrupted",
            f"the analysis was interrupted {max_attempts} times: the process that ran it died",
            "the server's log says why; analyse the file again, or a shorter part of it",
        )
        left = sa.or_(_JOBS.c.status == "queued", sa.and_(_JOBS.c.status == "running", _JOBS.c.lease_until < now))
        turn = _JOBS.c.created + sa.case((_JOBS.c.priority == "batch", BATCH_WAITS_S), else_=0.0)
        first = sa.select(_JOBS.c.id).where(left).order_by(turn, _JOBS.c.id).limit(1).with_for_update(skip_locked=True)
        with self._engine.begin() as db:
            ended = {"status": "failed", "error": _dump(worn_out), "finished": now, "owner": None}
            db.execute(_JOBS.update().where(_JOBS.c.attempts >= max_attempts, left).values(ended))
            job_id = db.execute(first).scalar()
            if job_id is None:
                return None
            taken = {
                "status": "running", "owner": owner, "lease_until": now + lease_s, "started": now, "stage": "starting",
                "share": 0.0, "attempts": _JOBS.c.attempts + 1, "detectors": "{}",
            }  # fmt: skip
            db.execute(_JOBS.update().where(_JOBS.c.id == job_id).values(taken))
            return _jobs(db, sa.select(*_SHOWN).where(_JOBS.c.id == job_id))[0]

    def beat(
        self,
        owner: str,
        progress: Mapping[str, tuple[str, float]],
        lease_s: float,
        detectors: Mapping[str, Mapping[str, float]] | None = None,
    ) -> set[str]:
        """Extend the leases of `owner`, write progress, also of each detector; returns the analyses that are no longer
        its own."""
        until = time.time() + lease_s
        with self._engine.begin() as db:
            for job_id, (stage, share) in sorted(progress.items()):
                told: dict[str, Any] = {"lease_until": until, "stage": stage, "share": share}
                if detectors is not None:
                    told["detectors"] = json.dumps(detectors.get(job_id, {}))
                db.execute(_JOBS.update().where(_held(job_id, owner)).values(told))
            mine = sa.select(_JOBS.c.id).where(_JOBS.c.owner == owner, _JOBS.c.status == "running")
            return set(progress) - set(db.execute(mine).scalars())

    def finish(self, job_id: str, owner: str, result: str, verdict: str, score: float | None) -> bool:
        """False where the analysis was cancelled or taken by another meanwhile; then nothing is written."""
        done = {"status": "done", "stage": "done", "share": 1.0, "result": result, "verdict": verdict, "score": score}
        return self._change(_held(job_id, owner), done | {"finished": time.time(), "owner": None})

    def fail(self, job_id: str, owner: str, error: Failure) -> bool:
        """As `finish`."""
        failed = {"status": "failed", "error": _dump(error), "finished": time.time(), "owner": None}
        return self._change(_held(job_id, owner), failed)

    def give_back(self, job_id: str, owner: str, counted: bool = True) -> bool:
        """Queue an interrupted analysis again; not `counted` where it was stopped on purpose, not by its own doing."""
        again: dict[str, Any] = {"status": "queued", "stage": "queued", "share": 0.0, "owner": None}
        if not counted:
            again["attempts"] = _JOBS.c.attempts - 1
        return self._change(_held(job_id, owner), again)

    def cancel(self, job_id: str) -> bool:
        """True where it was queued or running and is now cancelled."""
        going = sa.and_(_JOBS.c.id == job_id, _JOBS.c.status.in_(("queued", "running")))
        return self._change(going, {"status": "cancelled", "finished": time.time(), "owner": None})

    def _change(self, where: sa.ColumnElement[bool], values: dict[str, Any]) -> bool:
        with self._engine.begin() as db:
            return db.execute(_JOBS.update().where(where).values(values)).rowcount == 1

    def delete(self, job_id: str) -> None:
        """Its record; nothing where there is none."""
        with self._engine.begin() as db:
            db.execute(_JOBS.delete().where(_JOBS.c.id == job_id))

    def set_tags(self, job_id: str, tags: Sequence[str]) -> None:
        """Instead of those it had."""
        with self._engine.begin() as db:
            db.execute(_TAGS.delete().where(_TAGS.c.job == job_id))
            _tag(db, job_id, tags)

    def set_notes(self, job_id: str, notes: str) -> None:
        """Instead of those it had."""
        self._change(_JOBS.c.id == job_id, {"notes": notes})

    def close(self) -> None:
        """Lets the database go."""
        if self._watcher is not None:
            self._watcher.close()
        self._engine.dispose()


def _sqlite_connection(connection: Any, _: object) -> None:
    # Without the driver's own transactions: IMMEDIATE ones, in which what was read cannot change before the write.
    connection.isolation_level = None
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin(db: sa.Connection) -> None:
    # The reader's engine hears the same events: a read that took the write lock would wait for every writer.
    if db.get_execution_options().get("isolation_level") != "AUTOCOMMIT":
        db.exec_driver_sql("BEGIN IMMEDIATE")


def _add_columns(db: sa.Connection) -> None:
    """Those that a store of an earlier version lacks; they all have a value for what is there already."""
    there = {column["name"] for column in sa.inspect(db).get_columns("jobs")}
    for column in _JOBS.columns:
        if column.name not in there:
            kind = column.type.compile(db.dialect)
            default = getattr(column.server_default, "arg", None)
            given = "" if default is None else f" NOT NULL DEFAULT '{default}'"
            db.execute(sa.text(f"ALTER TABLE jobs ADD COLUMN {column.name} {kind}{given}"))
    for index in _JOBS.indexes:
        index.create(db, checkfirst=True)


def _held(job_id: str, owner: str) -> sa.ColumnElement[bool]:
    return sa.and_(_JOBS.c.id == job_id, _JOBS.c.owner == owner, _JOBS.c.status == "running")


def _same(token: str, key: str, *statuses: Status) -> sa.Select[Any]:
    alike = (_JOBS.c.token == token, _JOBS.c.key == key, _JOBS.c.status.in_(statuses))
    return sa.select(*_SHOWN).where(*alike).order_by(_JOBS.c.created.desc()).limit(1)


def _queued(db: sa.Connection) -> int:
    waiting = sa.select(sa.func.count()).select_from(_JOBS).where(_JOBS.c.status == "queued")
    return int(db.execute(waiting).scalar_one())


def _jobs(db: sa.Connection, wanted: sa.Select[Any]) -> list[Job]:
    jobs = [_job(row._asdict()) for row in db.execute(wanted)]
    tags: dict[str, list[str]] = {job.id: [] for job in jobs}
    if tags:
        theirs = sa.select(_TAGS.c.job, _TAGS.c.tag).where(_TAGS.c.job.in_(list(tags))).order_by(_TAGS.c.tag)
        for job_id, tag in db.execute(theirs):
            tags[job_id].append(tag)
    return [replace(job, tags=tuple(tags[job.id])) for job in jobs]


def _job(row: Mapping[str, Any]) -> Job:
    values = dict(row)
    if values["error"] is not None:
        values["error"] = Failure(**json.loads(values["error"]))
    return Job(**values)


def _tag(db: sa.Connection, job_id: str, tags: Sequence[str]) -> None:
    if tags:
        db.execute(_TAGS.insert(), [{"job": job_id, "tag": tag} for tag in dict.fromkeys(tags)])


def _dump(error: Failure) -> str:
    return json.dumps({"code": error.code, "reason": error.reason, "hint": error.hint})


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("(Background")]
    return lines[0][:300] if lines else type(error).__name__
