"""Many files at once, without the service: Ray Data's actors, resumable, Parquet out.

    python -m serve.batch INPUT --output DIR [--workers N] [--address ADDRESS] [--retry-failed]

INPUT is a folder, a text file with a path or address a line, a CSV with a column `path`, or any of these on object
storage (s3://..., gs://..., with fsspec's driver installed). Each part of DIR is whole or not there; given again, the
command goes on with the files that no part holds, and with --retry-failed also with those that failed. A file that was
tried again has a row in a later part, which is the one that counts. On a cluster:

    ray job submit --working-dir . -- python -m serve.batch s3://bucket/media --output s3://bucket/found --address auto
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import logging
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from preprocessing.media.formats import SUFFIXES
from preprocessing.settings import Backend, Settings
from serve.launch import prepare_environment

PART_ROWS = 200
PART_S = 60.0
"""A part is written when it has so many rows, or so long after the one before: what a kill costs."""


class BatchError(Exception):
    """Why there is nothing to do, or it cannot be done, in words for the person who asked."""


@dataclass(frozen=True)
class Place:
    """A path on a file system that fsspec knows."""

    fs: Any
    path: str

    @classmethod
    def of(cls, url: str) -> Place:
        """Raises BatchError where there is no such file system."""
        import fsspec  # type: ignore[import-untyped]

        try:
            fs, path = fsspec.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise BatchError(f"{url}: {error}") from None
        return cls(fs, str(path))


def inputs(url: str) -> Iterator[str]:
    """The addresses of the media that INPUT names, in a fixed order. Raises BatchError."""
    place = Place.of(url)
    if not place.fs.exists(place.path):
        raise BatchError(f"there is no {url}")
    if place.fs.isdir(place.path):
        for path in sorted(place.fs.find(place.path)):
            if _is_media(path):
                yield place.fs.unstrip_protocol(path)
        return
    if _is_media(place.path):
        yield place.fs.unstrip_protocol(place.path)
        return
    with place.fs.open(place.path, "r", encoding="utf-8", newline="") as file:
        try:
            yield from _listed(file, place)
        except (UnicodeDecodeError, csv.Error) as error:
            raise BatchError(f"{url} is no list of files: {error}") from None


def _is_media(path: str) -> bool:
    return Path(path).suffix.lower() in SUFFIXES


def _listed(file: Iterable[str], place: Place) -> Iterator[str]:
    if place.path.lower().endswith(".csv"):
        rows = csv.DictReader(file)
        if "path" not in (rows.fieldnames or ()):
            raise BatchError(f"{place.path} has no column `path`: it has {', '.join(rows.fieldnames or ()) or 'none'}")
        names = [row["path"] for row in rows]
    else:
        names = [line.strip() for line in file]
    base = os.path.dirname(place.path)  # noqa: PTH120 - of any file system, which Path is not
    for name in filter(None, names):
        whole = "://" in name or name.startswith("/")
        yield name if whole else place.fs.unstrip_protocol(f"{base}/{name}")


class Analyst:
    """An actor: the pipeline with its detectors, one file at a time."""

    def __init__(self, settings: str, backend: Backend) -> None:
        import torch

        from detectors.local import LocalStages

        torch.set_num_threads(1)
        self._stages, self._settings = LocalStages(backend=backend), Settings.model_validate_json(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        from detectors.local import analyse_file
        from preprocessing.errors import MediaError

        began = time.perf_counter()
        url = str(row["path"])
        answer = dict.fromkeys(("status", "code", "reason", "verdict", "score", "low", "high", "faces", "result"))
        try:
            with _local(url) as path:
                found = analyse_file(path, self._stages, self._settings, name=Path(url).name).result
            low, high = found.interval or (None, None)
            answer |= {
                "status": "done", "verdict": found.verdict, "score": found.score, "low": low, "high": high,
                "faces": len(found.faces), "result": found.model_dump_json(by_alias=True),
            }  # fmt: skip
        except MediaError as error:
            answer |= {"status": "failed", "code": error.code, "reason": error.reason}
        except OSError as error:
            answer |= {"status": "failed", "code": "missing", "reason": f"cannot be read: {error.strerror or error}"}
        except Exception as error:  # our own fault costs one file, and is shown
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:300]
            answer |= {"status": "failed", "code": "internal", "reason": reason}
        return {"path": url, "seconds": round(time.perf_counter() - began, 3), "answer": json.dumps(answer)}


@contextmanager
def _local(url: str) -> Iterator[Path]:
    """The file on this machine: decoders open nothing else."""
    place = Place.of(url)
    if "file" in place.fs.protocol:
        yield Path(place.path)
        return
    with tempfile.TemporaryDirectory(prefix="unmask-batch-") as folder:
        path = Path(folder) / f"media{Path(place.path).suffix}"
        place.fs.get_file(place.path, str(path))
        yield path


class Parts:
    """The Parquet files of an output folder."""

    def __init__(self, url: str) -> None:
        self._place = Place.of(url)
        self._place.fs.makedirs(self._place.path, exist_ok=True)
        self._rows: list[dict[str, Any]] = []
        self._last = time.monotonic()

    def known(self) -> dict[str, str]:
        """The status of each address that a part holds, by the latest that does."""
        import pyarrow.parquet as pq  # type: ignore[import-untyped]

        found: dict[str, str] = {}
        for path in sorted(self._place.fs.glob(f"{self._place.path}/part-*.parquet")):
            with self._place.fs.open(path, "rb") as file:
                rows = pq.read_table(file, columns=["path", "status"])
                found |= zip(rows["path"].to_pylist(), rows["status"].to_pylist(), strict=True)
        return found

    def add(self, row: dict[str, Any]) -> None:
        """Of one file; written with others."""
        self._rows.append(row)
        if len(self._rows) >= PART_ROWS or time.monotonic() - self._last > PART_S:
            self.write()

    def write(self) -> None:
        """What waits, as one part, by a rename: a part is whole or not there."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._last = time.monotonic()
        if not self._rows:
            return
        content = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(self._rows, schema=_schema(pa)), content, compression="zstd")
        name = f"part-{time.time_ns() // 1000:016}-{uuid.uuid4().hex[:8]}.parquet"
        made = f"{self._place.path}/.{name}"
        with self._place.fs.open(made, "wb") as file:
            file.write(content.getvalue())
        self._place.fs.mv(made, f"{self._place.path}/{name}")
        self._rows = []


def _schema(pa: Any) -> Any:
    text, number = pa.string(), pa.float64()
    kinds = {
        "path": text, "status": text, "code": text, "reason": text, "verdict": text, "score": number, "low": number,
        "high": number, "faces": pa.int32(), "seconds": number, "result": text,
    }  # fmt: skip
    return pa.schema(list(kinds.items()))


@dataclass(frozen=True)
class Count:
    """Files by what became of them: done and failed now, in the output before, of these failed and not tried again."""

    done: int
    failed: int
    before: int
    failed_before: int


def run(
    source: str,
    output: str,
    workers: int | None = None,
    address: str | None = None,
    *,
    retry_failed: bool = False,
    backend: Backend = "torch",
) -> Count:
    """Analyse what is not there yet. Raises BatchError."""
    parts = Parts(output)
    known = {url: status for url, status in parts.known().items() if not (retry_failed and status == "failed")}
    named = list(dict.fromkeys(inputs(source)))
    wanted = [{"path": url} for url in named if url not in known]
    if not named:
        raise BatchError(f"{source} names no media")
    before = len(named) - len(wanted)
    failed_before = sum(known.get(url) == "failed" for url in named)
    if not wanted:
        return Count(0, 0, before, failed_before)
    prepare_environment()
    import ray

    with _ray(ray, workers, address) as number:
        data = ray.data.from_items(wanted, override_num_blocks=min(len(wanted), max(4 * number, len(wanted) // 50)))
        settings = Settings(heatmaps=0).model_dump_json()
        actors = ray.data.ActorPoolStrategy(size=min(number, len(wanted)))
        found = data.map(Analyst, fn_constructor_args=(settings, backend), compute=actors, num_cpus=1)
        done = failed = 0
        began = time.monotonic()
        try:
            for row in found.iter_rows():
                answer = json.loads(row["answer"])
                parts.add({"path": row["path"], "seconds": row["seconds"], **answer})
                done, failed = done + (answer["status"] == "done"), failed + (answer["status"] != "done")
                _tell(done + failed, len(wanted), began)
        except ray.exceptions.RayError as error:
            reason = f"{type(error).__name__}: {str(error).strip().splitlines()[-1][:300]}"
            raise BatchError(
                f"Ray stopped the work ({reason}); what is done is kept, so give the command again"
            ) from error
        finally:
            parts.write()
    return Count(done, failed, before, failed_before)


@contextmanager
def _ray(ray: Any, workers: int | None, address: str | None) -> Iterator[int]:
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    number = workers or os.cpu_count() or 1
    if address is None:
        options |= {"num_cpus": number + 1, "include_dashboard": False, "object_store_memory": 512 * 1024**2}
    try:
        ray.init(address=address or "local", **options)
    except Exception as error:  # Ray raises Exception itself where its processes do not come up in time
        raise BatchError(f"Ray did not start: {str(error).splitlines()[0][:300]}") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data.exceptions").setLevel(logging.CRITICAL)  # the reason is told, by `run`
    try:
        there = int(ray.cluster_resources().get("CPU", 2)) - (address is None)
        yield max(min(workers or there, there), 1)
    finally:
        ray.shutdown()


def _tell(count: int, of: int, began: float) -> None:
    rate = count / max(time.monotonic() - began, 1e-6)
    if count == of or count % max(1, of // 200) == 0:
        print(f"{count} of {of} files, {rate:.2f} a second, {(of - count) / rate:.0f} s left", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: 0 all done, 2 usage, 3 some files failed, now or before (the output has the reason of each)."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(prog="python -m serve.batch", description=__doc__.splitlines()[0])
    parser.add_argument("input", help="a folder, a list of files, a CSV with a column path; local or by address")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the Parquet parts")
    parser.add_argument("--workers", type=int, help="analyses at the same time; default: one a core")
    parser.add_argument("--address", help="a running Ray cluster's, or auto; default: a Ray of its own")
    parser.add_argument("--retry-failed", action="store_true", help="also those that the output says have failed")
    parser.add_argument("--backend", choices=get_args(Backend), default="torch", help="onnx: faster on a CPU")
    given = parser.parse_args(arguments)
    if given.workers is not None and given.workers < 1:
        parser.error("--workers: at least 1")
    try:
        count = run(
            given.input,
            given.output,
            given.workers,
            given.address,
            retry_failed=given.retry_failed,
            backend=given.backend,
        )
    except BatchError as error:
        print(error, file=sys.stderr)
        return 2
    there = f"{count.before} were there before" + (f" ({count.failed_before} failed)" if count.failed_before else "")
    print(f"{count.done} analysed, {count.failed} failed, {there}: {given.output}")
    return 3 if count.failed or count.failed_before else 0


if __name__ == "__main__":
    sys.exit(main())
