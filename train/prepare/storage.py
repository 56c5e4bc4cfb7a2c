"""The files of a prepared set: shards that appear whole or not at all, the index beside them, and what made them.

prepared.json            schema, data set, settings and versions: what a continued run must share
shards/NAME.tar          KEY.png|jpg, KEY.mask.png where there is a mask, KEY.json: a WebDataset shard
shards/NAME.jsonl        the index: a line a video, its samples in it; a shard counts once this file is there
failures.jsonl, summary.json    of the last run
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import os
import posixpath
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from preprocessing.datasets.tree import file_system, is_local
from train.prepare.extract import Prepared
from train.prepare.settings import SCHEMA, PrepareError

HEADER = 512
"""Bytes of a ustar member's header: the content follows it."""
FULL = (errno.ENOSPC, errno.EDQUOT)


class DiskFull(PrepareError):
    """No room for the next shard; what is finished stays."""


class Store:
    """A prepared set's folder, local or on any fsspec file system. Raises PrepareError where it cannot be used."""

    def __init__(self, url: str) -> None:
        try:
            self._fs, self.root = file_system(url)
        except (ImportError, ValueError) as error:
            raise PrepareError(f"--out {url}: {error}") from None
        self._given, self._process = url, os.getpid()
        self.root = self.root.rstrip("/")
        self.local = is_local(self.fs)
        self.url = str(self.fs.unstrip_protocol(self.root))

    @property
    def fs(self) -> Any:
        """fsspec's; in a forked process, as loaders are, one of its own, since asynchronous ones survive no fork."""
        if self._process != os.getpid():
            (self._fs, _), self._process = file_system(self._given), os.getpid()
        return self._fs

    def path(self, name: str) -> str:
        """As the file system takes it."""
        return posixpath.join(self.root, name)

    def create(self) -> None:
        """The folder and its shards/."""
        try:
            self.fs.makedirs(self.path("shards"), exist_ok=True)
        except OSError as error:
            raise PrepareError(
                f"{self.url} cannot be written: {error.strerror or error}; choose another --out"
            ) from None

    def read(self, name: str) -> str | None:
        """A small text file, None where it is not there."""
        try:
            return str(self.fs.cat_file(self.path(name)).decode())
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        """Whole or not at all. Raises DiskFull, PrepareError."""
        final = self.path(name)
        part = posixpath.join(posixpath.dirname(final), f".part-{os.getpid()}-{posixpath.basename(final)}")
        try:
            if self.local:
                _write_local(Path(part), content)
                Path(part).replace(final)
            else:
                self.fs.pipe_file(part, content)
                self.fs.mv(part, final)
        except OSError as error:
            with contextlib.suppress(OSError):
                self.fs.rm_file(part)
            if error.errno in FULL:
                raise DiskFull(
                    f"no space is left for {self.url}: what is finished is kept; make room and run the command again"
                ) from None
            raise PrepareError(f"{self.url}/{name} cannot be written: {error.strerror or error}") from None

    def clean(self) -> None:
        """Removes what killed runs left half written, and shards that never came to count."""
        for folder in (self.root, self.path("shards")):
            names = {posixpath.basename(path.rstrip("/")) for path in self.fs.ls(folder, detail=False)}
            lost = {n for n in names if n.startswith(".part-")}
            lost |= {n for n in names if n.endswith(".tar") and n.replace(".tar", ".jsonl") not in names}
            for name in lost:
                self.fs.rm_file(posixpath.join(folder, name))

    # --- what made the set

    def claim(self, made_by: dict[str, Any]) -> None:
        """Takes the folder for a set of this making, or refuses. `made_by`: layout, root, settings, versions.

        Raises PrepareError that names each difference and the way out.
        """
        content = self.read("prepared.json")
        if content is None:
            listed = self.fs.ls(self.root, detail=False) if self.fs.exists(self.root) else []
            names = {posixpath.basename(path.rstrip("/")) for path in listed} - {"shards", ".lock"}
            if any(not name.startswith(".part-") for name in names):
                raise PrepareError(f"{self.url} holds other files: choose an empty or a new folder as --out")
            self.create()
            self.write("prepared.json", _pretty({"schema": SCHEMA, **made_by}))
            return
        before = self._parsed(content)
        differences = list(_differences(before, {"schema": SCHEMA, **made_by}))
        if differences:
            raise PrepareError(
                f"{self.url} was made otherwise: {'; '.join(differences[:6])}. Continue it with what made it, or choose"
                " another --out"
            )

    def made_by(self) -> dict[str, Any]:
        """prepared.json. Raises PrepareError where this is no prepared set, or one of another schema."""
        content = self.read("prepared.json")
        if content is None:
            raise PrepareError(f"{self.url} is no prepared set (it has no prepared.json): make one with unmask prepare")
        found = self._parsed(content)
        if found.get("schema") != SCHEMA:
            raise PrepareError(
                f"{self.url} is of the form {found.get('schema')}, this unmask reads {SCHEMA}: prepare it anew, or use"
                " the unmask that made it"
            )
        return found

    def _parsed(self, content: str) -> dict[str, Any]:
        try:
            found = json.loads(content)
        except json.JSONDecodeError as error:
            raise PrepareError(f"{self.url}/prepared.json is damaged: {error}") from None
        if not isinstance(found, dict):
            raise PrepareError(f"{self.url}/prepared.json is damaged: it holds no object")
        return found

    # --- shards

    def save_shard(self, videos: Sequence[Prepared]) -> str:
        """One tar and its index lines; named after its videos, so the same videos make the same files."""
        name = hashlib.sha256("\n".join(v.record["video"] for v in videos).encode()).hexdigest()[:16]
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for video in videos:
                _add(tar, video)
        if any(video.files for video in videos):
            self.write(f"shards/{name}.tar", content.getvalue())
        lines = [json.dumps(v.record, separators=(",", ":"), allow_nan=False) for v in videos]
        self.write(f"shards/{name}.jsonl", ("\n".join(lines) + "\n").encode())
        return name

    def videos(self) -> Iterator[dict[str, Any]]:
        """Every finished video once, with the name of its `shard`; in the order of the shards' names."""
        seen: set[str] = set()
        shards = self.path("shards")
        listed = self.fs.ls(shards, detail=False) if self.fs.exists(shards) else []
        for path in sorted(listed):
            name = posixpath.basename(path)
            if not name.endswith(".jsonl") or name.startswith("."):
                continue
            for number, line in enumerate(self.fs.cat_file(path).decode().splitlines(), 1):
                try:
                    video = json.loads(line)
                    key = video["video"]
                except (json.JSONDecodeError, LookupError, TypeError):
                    raise PrepareError(
                        f"{self.url}/shards/{name}, line {number}, is damaged: delete that file and run prepare again"
                    ) from None
                # A worker that outlives its killed run may commit what the next run made too.
                if key not in seen:
                    seen.add(key)
                    yield video | {"shard": name.removesuffix(".jsonl")}

    def bytes_of(self, shard: str, start: int, size: int) -> bytes:
        """A part of a shard. Raises PrepareError where it is not there."""
        path = self.path(f"shards/{shard}.tar")
        try:
            if not self.local:
                return bytes(self.fs.cat_file(path, start=start, end=start + size))
            with Path(path).open("rb", buffering=0) as file:
                return os.pread(file.fileno(), size, start)
        except OSError as error:
            raise PrepareError(f"{path} cannot be read: {error.strerror or error}; prepare the set again") from None


def _add(tar: tarfile.TarFile, video: Prepared) -> None:
    about = {name: value for name, value in video.record.items() if name != "samples"}
    for sample, files in zip(video.record["samples"], video.files, strict=True):
        sample["files"] = {}
        described = json.dumps({**about, **{k: v for k, v in sample.items() if k != "files"}}, allow_nan=False)
        for suffix, data in [*files, ("json", described.encode())]:
            member = tarfile.TarInfo(f"{sample['key']}.{suffix}")
            member.size = len(data)
            start = tar.offset + HEADER
            tar.addfile(member, io.BytesIO(data))
            if suffix != "json":
                sample["files"][suffix] = [start, len(data)]


def _write_local(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _pretty(value: Any) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def _differences(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            yield from _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            yield f"{prefix}{key} was {old}, is {new}"


@contextlib.contextmanager
def locked(store: Store) -> Iterator[None]:
    """One run at a time in a local folder. Raises PrepareError where another one has it."""
    if not store.local:
        yield
        return
    from filelock import FileLock, Timeout

    store.create()
    lock = FileLock(store.path(".lock"))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise PrepareError(f"another run is preparing {store.url}: wait for it, or choose another --out") from None
    try:
        yield
    finally:
        lock.release()


def scratch_is_full() -> bool:
    """Whether the folder for temporary files has no room left."""
    status = os.statvfs(tempfile.gettempdir())
    return status.f_bavail * status.f_frsize < 2**20
