"""Four times as many images as the service can take, for minutes: what is admitted ends in time, the rest is refused.

    python -m benchmarks.overload

First its capacity, by clients that each wait for their answer; then arrivals at four times that rate, each sent when
its time has come, whatever became of those before. The queue is as long as what the service does in half of DEADLINE_S.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np

from benchmarks.service import Service, memory_mb, service

OVER = 4.0
SECONDS = 300.0
CAPACITY_S = 40.0
CLIENTS = 4
DEADLINE_S = 30.0
"""From the upload to the result; the queue is bounded so that it holds."""
QUEUE_SHARE = 0.5
"""The queue holds what the service does in this share of the deadline: refusing costs it some of its capacity."""
WARM_UP = 10
TARGET_REFUSAL_MS = 100.0
TARGET_GROWTH = 0.05


@dataclass(frozen=True)
class Sent:
    """One arrival: its answer's status, the milliseconds until it, and where its analysis is, if it was admitted."""

    status: int
    ms: float
    where: str | None


def capacity(graph: Service) -> float:
    """Images a second that a few clients get who wait for each answer."""
    done, until = [], time.monotonic() + CAPACITY_S

    def client() -> None:
        while time.monotonic() < until:
            graph.ended(graph.post().headers["location"])
            done.append(time.monotonic())

    with ThreadPoolExecutor(CLIENTS) as pool:
        for one in [pool.submit(client) for _ in range(CLIENTS)]:
            one.result()
    within = [moment for moment in done if moment > until - CAPACITY_S / 2]  # warm by then
    return len(within) / (max(within) - (until - CAPACITY_S / 2))


def flood(graph: Service, rate: float, seconds: float) -> tuple[list[Sent], list[float]]:
    """Arrivals at `rate` a second; and the service's memory, in MB, every 10 s."""
    sent: list[Sent] = []
    memory: list[float] = []
    over = threading.Event()

    def watch() -> None:
        while not over.wait(10):
            memory.append(memory_mb())

    def arrive(moment: float) -> None:
        time.sleep(max(moment - time.monotonic(), 0))
        began = time.perf_counter()
        try:
            answer = graph.post()
        except httpx.HTTPError:
            sent.append(Sent(0, (time.perf_counter() - began) * 1e3, None))
            return
        where = answer.headers["location"] if answer.status_code == 202 else None
        sent.append(Sent(answer.status_code, (time.perf_counter() - began) * 1e3, where))

    watcher = threading.Thread(target=watch)
    watcher.start()
    begin = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(arrive, [begin + i / rate for i in range(int(rate * seconds))]))
    over.set()
    watcher.join()
    return sent, memory


def run(seconds: float = SECONDS) -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline?, n}."""
    with service() as graph:
        able = capacity(graph)
    waiting = max(int(able * DEADLINE_S * QUEUE_SHARE), 2)
    with service({"gateway": {"max_queued": waiting}}) as graph:
        for _ in range(WARM_UP):
            graph.ended(graph.post().headers["location"])
        print(f"{able:.2f} images/s; now {OVER:g} times that for {seconds:g} s", file=sys.stderr, flush=True)
        sent, memory = flood(graph, OVER * able, seconds)
        ends = [graph.ended(one.where) for one in sent if one.where]
    took = [found["finished"] - found["created"] for found in ends if found["status"] == "done"]
    refused = [one.ms for one in sent if one.status == 503]
    other = [one.status for one in sent if one.status not in (202, 503)]
    third = max(len(memory) // 3, 1)
    growth = float(np.median(memory[-third:]) / np.median(memory[:third]) - 1)
    rows: list[dict[str, Any]] = [
        {"metric": "capacity", "value": round(able, 2), "unit": "images/s", "n": int(able * CAPACITY_S / 2)},
        {"metric": "admitted", "value": len(ends), "unit": "images", "n": len(sent)},
        {"metric": "admitted and done", "value": len(took), "unit": "images", "baseline": len(ends), "n": len(ends)},
        {"metric": "answers that are neither 202 nor 503", "value": len(other), "unit": "", "baseline": 0,
         "n": len(sent)},
        {"metric": "upload to result, 95th percentile", "value": round(float(np.percentile(took, 95)), 1), "unit": "s",
         "baseline": DEADLINE_S, "n": len(took)},
        {"metric": "a refusal, median", "value": round(float(np.median(refused)), 1), "unit": "ms",
         "baseline": TARGET_REFUSAL_MS, "n": len(refused)},
        {"metric": "a refusal, 95th percentile", "value": round(float(np.percentile(refused, 95)), 1), "unit": "ms",
         "baseline": TARGET_REFUSAL_MS, "n": len(refused)},
        {"metric": "a refusal, the slowest", "value": round(max(refused), 1), "unit": "ms",
         "baseline": TARGET_REFUSAL_MS, "n": len(refused)},
        {"metric": "memory, last third over first", "value": round(growth, 3), "unit": "of it",
         "baseline": TARGET_GROWTH, "n": len(memory)},
    ]  # fmt: skip
    return [{"bench": "overload", **row} for row in rows]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
