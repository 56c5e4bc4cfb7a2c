"""The same work on Ray Data: videos are rows, a batch of them a shard, a pool of actors makes the shards.

Crops go from the worker that cuts them to the shard's file; only a line a video comes back.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from preprocessing.datasets import Item
from train.prepare.run import Outcome, Worker, cores
from train.prepare.settings import PrepareError, PrepareSettings

OBJECT_STORE_BYTES = 256 * 2**20
"""Rows are text: this is plenty."""
CONNECT_S = 10.0


class _Actor:
    """Ray Data's view of a Worker: batches of rows in, a row a video out."""

    def __init__(self, root: str, out: str, settings: str) -> None:
        self._worker = Worker(root, out, PrepareSettings.model_validate_json(settings))

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        items = [Item.from_dict(json.loads(text)) for text in batch["item"].tolist()]
        return {"outcome": np.array([json.dumps(vars(one)) for one in self._worker.shard(items)], dtype=object)}


def on_ray(
    root: str,
    out: str,
    batches: Sequence[Sequence[Item]],
    settings: PrepareSettings,
    workers: int | None,
    address: str | None,
) -> Iterator[Outcome]:
    """Yields what became of each video, shard by shard as they are finished. Raises PrepareError."""
    prepare_environment()
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise PrepareError(
            f"Ray Data is not installed ({error}): install unmask-forensics[serve], or use --local"
        ) from None
    with connected(ray, workers, address) as there:
        number = min(workers or there, len(batches))
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        context.enable_auto_log_stats = False
        rows = [{"item": json.dumps(item.as_dict())} for batch in batches for item in batch]
        # Blocks of a shard's size: a block is what Ray gives to an actor, and what it gives again if one dies.
        found = ray.data.from_items(rows, override_num_blocks=len(batches)).map_batches(
            _Actor,
            batch_size=None,
            compute=ray.data.ActorPoolStrategy(size=number, max_tasks_in_flight_per_actor=2),
            fn_constructor_args=(root, out, settings.model_dump_json()),
            num_cpus=1,
        )
        try:
            for row in found.iter_rows():
                yield Outcome(**json.loads(row["outcome"]))
        except ray.exceptions.RayError as error:
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise PrepareError(f"Ray could not go on: {lines[-1][:300] if lines else type(error).__name__}") from error


@contextmanager
def connected(ray: Any, workers: int | None, address: str | None) -> Iterator[int]:
    """A Ray of our own, whatever RAY_ADDRESS says, or the cluster at `address`; yields its cores for workers."""
    if ray.is_initialized():
        raise PrepareError("this process is connected to a Ray instance already: use --local, or another process")
    if address is not None:
        _reach(address)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _start(ray, workers, address)
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():  # Ray's own would end this process without the clean-up below
                signal.signal(number, handler)
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        yield max(int(ray.cluster_resources().get("CPU", 2)) - (address is None), 1)
    finally:
        if ray.is_initialized():
            ray.shutdown()


def _start(ray: Any, workers: int | None, address: str | None) -> None:
    options: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": False}
    if address is None:
        options |= {
            "num_cpus": (workers or cores()) + 1,
            "object_store_memory": OBJECT_STORE_BYTES,
            "include_dashboard": False,
        }
    try:
        with _standard_error_aside():
            ray.init(address=address or "local", **options)
    except Exception as error:  # Ray raises Exception itself where its processes do not come up in time
        reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
        raise PrepareError(f"Ray did not start: {reason} (--local does without it)") from error


def _reach(address: str) -> None:
    """Ray itself waits for minutes for a cluster that is not there. Raises PrepareError after CONNECT_S."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not port.isdigit():  # auto, local: Ray's own words
        return
    try:
        socket.create_connection((host or "127.0.0.1", int(port)), CONNECT_S).close()
    except OSError as error:
        raise PrepareError(
            f"no Ray cluster answers at {address} ({error.strerror or error}): start it, or leave --address out"
        ) from None


@contextmanager
def _standard_error_aside() -> Iterator[None]:
    """Ray's native code tells there, past Python, which log level it was given; its failures come as exceptions."""
    sys.stderr.flush()
    before = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:  # noqa: PTH123 - a device
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)


def prepare_environment() -> None:
    """The environment of Ray, read when it is imported and by the processes that it starts: a token, no reports."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray Data's actors make it warn of itself on standard error.
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    # Ray listens on all interfaces and runs what it is sent: without a token that nobody else has, so could anyone.
    os.environ.setdefault("RAY_AUTH_MODE", "token")
    root = str(Path(__file__).resolve().parents[2])
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if root not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([root, *filter(None, paths)])
