"""Replicas of tracking, the longest stage, while the load rises and falls, as a table and a picture.

    python -m benchmarks.autoscale [--plot docs/images/autoscaling.png]

On one machine more replicas do not make more images a second once its cores are busy: what is shown is that they come
when their queue grows, go when it is empty, and that no analysis suffers by either.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.service import Service, service

MOST = 3
CLIENTS = (1, 4, 8, 4, 0)
STEP_S = 30.0
AFTER_S = 60.0
"""Watched after the last client has gone."""
SCALING = {
    "min_replicas": 1, "max_replicas": MOST, "target_ongoing_requests": 1.5, "upscale_delay_s": 3,
    "downscale_delay_s": 10, "metrics_interval_s": 1, "look_back_period_s": 3,
}  # fmt: skip
DEPLOYMENT = "Tracking"

Moment = tuple[float, int, int]
"""Seconds since the beginning, clients, running replicas."""


def replicas() -> int:
    """Running replicas of it."""
    from ray import serve as rayserve

    states = rayserve.status().applications["unmask"].deployments[DEPLOYMENT].replica_states
    return int(states.get("RUNNING", 0))


def ramp(graph: Service) -> tuple[list[Moment], list[dict[str, Any]]]:
    """What was seen each second, and how all analyses ended."""
    seen: list[Moment] = []
    ends: list[dict[str, Any]] = []
    begin = time.monotonic()
    wanted = 0

    def client(number: int) -> None:
        while number < wanted:
            ends.append(graph.ended(graph.post().headers["location"]))

    for wanted in CLIENTS:
        running = {thread.name for thread in threading.enumerate()}
        for number in range(wanted):
            if f"client{number}" not in running:
                threading.Thread(target=client, args=(number,), name=f"client{number}", daemon=True).start()
        until = time.monotonic() + (STEP_S if wanted else AFTER_S)
        while time.monotonic() < until:
            seen.append((round(time.monotonic() - begin, 1), wanted, replicas()))
            time.sleep(1)
    return seen, ends


def plot(seen: list[Moment], path: Path) -> None:
    """Clients and replicas over time."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    times, clients, running = zip(*seen, strict=True)
    figure, axes = pyplot.subplots(figsize=(8, 3), layout="constrained")
    axes.step(times, clients, where="post", color="#9aa5b1", label="clients that wait for answers")
    axes.step(times, running, where="post", color="#c4551b", linewidth=2.5, label="replicas of tracking")
    axes.set(xlabel="seconds", ylim=(0, None))
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def run(picture: Path | None = None) -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline, n}."""
    runner = {"slots": max(CLIENTS)}
    tracking = {"autoscaling": SCALING, "ray_actor_options": {"num_cpus": 0.2}}
    with service({"runner": runner, "tracking": tracking}) as graph:
        graph.ended(graph.post().headers["location"])
        seen, ends = ramp(graph)
    if picture is not None:
        plot(seen, picture)
    most = max(running for _, _, running in seen)
    rows: list[dict[str, Any]] = [
        {"metric": "most replicas under load", "value": most, "unit": "", "baseline": MOST, "n": len(seen)},
        {"metric": f"replicas {AFTER_S:g} s after the last client", "value": seen[-1][2], "unit": "", "baseline": 1,
         "n": 1},
        {"metric": "analyses that were not done", "value": sum(end["status"] != "done" for end in ends), "unit": "",
         "baseline": 0, "n": len(ends)},
    ]  # fmt: skip
    return [{"bench": "autoscale", **row} for row in rows]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plot", type=Path)
    print(json.dumps(run(parser.parse_args().plot), indent=1))
