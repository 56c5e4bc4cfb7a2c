"""Training runs on a Ray cluster, through its job API. Ray is imported when a cluster is asked, not before."""

from __future__ import annotations

import itertools
import os
import re
import shlex
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from ui.errors import UsageError, describe

ROOT = Path(__file__).resolve().parents[1]
SENT = ("preprocessing", "detectors", "train")
"""What a job needs of unmask's code; it travels with the job, so that cluster and dashboard run the same."""
DEFAULT = "http://127.0.0.1:8265"
ADDRESS = "RAY_API_SERVER_ADDRESS"
REACH_S = 3.0
TAKES_VALUE = ("--data", "--out", "--workers", "--address", "--storage-path", "--max-failures")
ENDED = ("STOPPED", "SUCCEEDED", "FAILED")
START = "RAY_AUTH_MODE=token ray start --head --dashboard-host 127.0.0.1"
START_HINT = f"one for this machine alone is started with `{START}`"
_LOCK = threading.Lock()
T = TypeVar("T")


@dataclass(frozen=True)
class Job:
    """A training run. Times are seconds since 1970, None where not known yet; `storage` "" where none was given."""

    id: str
    status: str
    recipe: str
    storage: str
    entrypoint: str
    message: str
    started: float | None
    ended: float | None
    by: str

    @property
    def over(self) -> bool:
        return self.status in ENDED


@dataclass(frozen=True)
class Run:
    """What is asked for: as the options of `python -m train`. `data` and `storage` are places that the cluster sees."""

    recipe: str
    name: str
    data: str
    storage: str
    workers: str = "1"
    gpu: bool = False
    resume: bool = False
    overrides: tuple[str, ...] = ()

    def command(self) -> list[str]:
        """Raises UsageError for what cannot be meant."""
        workers = self.workers.strip() or "1"
        least, _, most = workers.partition("-")
        if not re.fullmatch(r"\d+(-\d+)?", workers) or not 1 <= int(least) <= int(most or least):
            raise UsageError(f"workers: {workers!r} is neither a number above 0 nor a range", "for example 2, or 2-4")
        if not self.storage.strip():
            raise UsageError("no place for the run is given", "name a folder or an address that the whole cluster sees")
        for what, place in (("data", self.data.strip()), ("the run's place", self.storage.strip())):
            if place and "://" not in place and not place.startswith("/"):
                raise UsageError(
                    f"{what}: {place} is no place that a cluster knows", "give an absolute path or an address"
                )
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}", self.name):
            raise UsageError(
                f"{self.name!r} cannot be a run's name", "letters, digits, dots, dashes and underscores can"
            )
        return [
            "python", "-m", "train", self.recipe,
            *(["--data", self.data.strip()] if self.data.strip() else []),
            "--workers", workers, *(["--gpu"] if self.gpu else []), "--storage-path", self.storage.strip(),
            *(["--resume"] if self.resume else []), f"name={self.name}", *self.overrides,
        ]  # fmt: skip


def known_address() -> str:
    """The cluster that this dashboard's environment names, else the usual place on this machine."""
    named = os.environ.get(ADDRESS) or os.environ.get("RAY_ADDRESS") or ""
    return named.rstrip("/") if named.startswith(("http://", "https://")) else DEFAULT


class Cluster:
    """The job API at an address. Raises UsageError, as its methods do, with what is wrong and the way out."""

    def __init__(self, address: str, token: str = "") -> None:
        self.address = address.strip().rstrip("/")
        _reach(self.address)
        self._client = _told(lambda: _connect(self.address, token))

    def jobs(self) -> list[Job]:
        """Training runs, the newest first; other jobs of the cluster are nobody's business here."""
        found = [_job(details) for details in _told(self._client.list_jobs)]
        return sorted((job for job in found if job is not None), key=lambda job: -(job.started or float("inf")))

    def job(self, job_id: str) -> Job | None:
        """None where it is no training run of this cluster."""
        return next((job for job in self.jobs() if job.id == job_id), None)

    def log(self, job_id: str) -> str:
        """What the run has said so far."""
        found: str = _told(lambda: self._client.get_job_logs(job_id)) or ""
        return found

    def start(self, run: Run, by: str = "") -> str:
        """The id of the new job."""
        command = run.command()
        modules = [str(ROOT / name) for name in SENT]
        submit = self._client.submit_job
        job_id: str = _told(
            lambda: submit(
                entrypoint=shlex.join(command),
                runtime_env={"py_modules": modules},
                metadata={"unmask": "train", "by": by},
            )
        )
        return job_id

    def stop(self, job_id: str) -> None:
        """SIGTERM, on which a run keeps its finished epochs; Ray kills it where it does not end."""
        _told(lambda: self._client.stop_job(job_id))


def _connect(address: str, token: str) -> Any:
    from serve.launch import prepare_environment

    prepare_environment()
    from ray.job_submission import JobSubmissionClient

    headers = {"Authorization": f"Bearer {token}"} if token else None
    if headers is None and not _may_have_our_token(address):
        headers = {"Authorization": "Bearer none"}
    with _LOCK, _environment(ADDRESS, address):
        return JobSubmissionClient(address, headers=headers)


def _may_have_our_token(address: str) -> bool:
    """Ray sends the environment's token along by itself: only where that names the cluster, or it is this machine."""
    host = urlsplit(address).hostname or ""
    try:
        here = host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        here = False
    return here or address == known_address()


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """Ray lets the environment override the address that it is given; under _LOCK."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _reach(address: str) -> None:
    """Ray itself would wait for as long as the system does."""
    try:
        parts = urlsplit(address)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        parts, port = urlsplit(""), 0
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UsageError(f"{address or 'nothing'} is no address of a cluster", f"it looks like {DEFAULT}")
    try:
        socket.create_connection((parts.hostname, port), REACH_S).close()
    except OSError as error:
        raise UsageError(f"no cluster answers at {address} ({error.strerror or error})", START_HINT) from None


def _told(call: Callable[[], T]) -> T:
    """What Ray's client raises, in words."""
    try:
        return call()
    except ImportError as error:
        raise UsageError(f"Ray is not installed ({error})", "install unmask-forensics[serve]") from None
    except Exception as error:  # RuntimeError, ConnectionError, AuthenticationError, and those of requests
        said = str(error)
        if "uthentication" in said or "Unauthorized" in said or "Forbidden" in said:
            raise UsageError("the cluster does not take the token", "give the one of its RAY_AUTH_TOKEN") from None
        raise UsageError(f"the cluster did not do that: {describe(error)}") from None


def _job(details: Any) -> Job | None:
    words = parsed(str(details.entrypoint or ""))
    if words is None or not details.submission_id:
        return None
    recipe, storage = words
    status = str(getattr(details.status, "value", details.status))
    started, ended = (None if moment is None else moment / 1000 for moment in (details.start_time, details.end_time))
    by = str((details.metadata or {}).get("by", ""))
    message = str(details.message or "")
    return Job(details.submission_id, status, recipe, storage, str(details.entrypoint), message, started, ended, by)


def parsed(entrypoint: str) -> tuple[str, str] | None:
    """Recipe and place of a training command, `python -m train` or `unmask train`; None of any other."""
    try:
        words = shlex.split(entrypoint)
    except ValueError:
        return None
    starts = [i + 2 for i in range(len(words) - 1) if words[i : i + 2] in (["-m", "train"], ["unmask", "train"])]
    if not starts:
        return None
    rest = words[starts[0] :]
    options = dict(itertools.pairwise(rest))
    named = [w for i, w in enumerate(rest) if not w.startswith("-") and (not i or rest[i - 1] not in TAKES_VALUE)]
    recipes = [word for word in named if "=" not in word]
    name = next((word.removeprefix("name=") for word in named if word.startswith("name=")), "")
    recipe = " ".join(recipes[:2]) if recipes[:1] == ["sweep"] else next(iter(recipes), "?")
    place = options.get("--storage-path", "")
    return recipe, f"{place.rstrip('/')}/{name or recipe}" if place else ""


def names(jobs: Sequence[Job]) -> set[str]:
    """Of the runs' folders, so that a new one gets another."""
    return {job.storage.rsplit("/", 1)[-1] for job in jobs if job.storage}
