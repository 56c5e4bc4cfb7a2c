"""A service of its own for the benchmarks that ask one: started, asked, and ended."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil


@dataclass(frozen=True)
class Service:
    """A graph that answers, how long its start took, and a portrait to send."""

    http: httpx.Client
    portrait: Path
    start_s: float

    def post(self, **form: str) -> httpx.Response:
        """One upload of the portrait, analysed anew whatever was analysed before."""
        with self.portrait.open("rb") as file:
            return self.http.post(
                "/v1/analyses", files={"file": (self.portrait.name, file)}, data={"again": "1", **form}
            )

    def get(self, where: str) -> dict[str, Any]:
        """An analysis by its address."""
        answer = self.http.get(where)
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    def followed(self, where: str) -> dict[str, Any]:
        """The same when its progress has been told to the end, which brings the result, as a page waits for it."""
        last = ""
        with self.http.stream("GET", f"{where}/events", params={"result": "1"}) as events:
            if events.is_error:
                events.read()
            events.raise_for_status()
            for line in events.iter_lines():
                last = line.removeprefix("data:") if line.startswith("data:") else last
        found: dict[str, Any] = json.loads(last)
        if "result" not in found:
            raise RuntimeError(f"the stream of {where} ended before the analysis")
        return found

    def ended(self, where: str, timeout_s: float = 300) -> dict[str, Any]:
        """The same when it is over; a service that does not answer for a moment is asked again."""
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            try:
                found = self.get(where)
                if found["status"] in ("done", "failed", "cancelled"):
                    return found
            except httpx.HTTPError:
                pass
            time.sleep(0.1)
        raise TimeoutError(f"{where} did not end within {timeout_s:g} s")


@contextmanager
def service(changes: Mapping[str, Mapping[str, Any]] | None = None) -> Iterator[Service]:
    """The laptop config with the weights that are there, on a Ray of its own, in a storage folder of its own.

    `changes`: arguments of the graph over the config's, by part, as in serve/settings.py.
    """
    from PIL import Image
    from skimage import data

    from serve.launch import Config, read_config, start
    from serve.settings import GraphArgs

    # Ray's own, 15, would let any other work of the machine go first.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = read_config().args.model_dump() | {"storage": folder / "storage"}
        for part, values in (changes or {}).items():
            given[part] = {**given[part], **values}
        portrait = folder / "portrait.jpg"
        Image.fromarray(data.astronaut()).save(portrait, quality=92)
        begun = time.perf_counter()
        with (
            start(Config(GraphArgs.model_validate(given), "127.0.0.1", port)) as running,
            httpx.Client(base_url=running.url, timeout=120, trust_env=False) as http,
        ):
            yield Service(http, portrait, time.perf_counter() - begun)


def memory_mb() -> float:
    """Proportional set size of Ray and all replicas that this process started."""
    total = 0
    for child in psutil.Process().children(recursive=True):
        try:
            total += child.memory_full_info().pss
        except psutil.Error:
            continue
    return total / 2**20
