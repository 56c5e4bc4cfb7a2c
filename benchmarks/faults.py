"""Each process of the service is killed under load: nothing lost, nothing wrong, and how long until it answers again.

    python -m benchmarks.faults

For each part, analyses are sent, its replica (or Serve's controller, or the proxy) gets SIGKILL while they run, and
more are sent until one is answered. Then all must have ended with the verdict and score of an undisturbed one.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from typing import Any

import httpx
import psutil

from benchmarks.service import Service, service

PARTS = ("Tracking", "Landmarks", "Group-detectors", "Runner", "Gateway", "controller", "proxy")
UNDER_WAY = 6
TARGET_S = 30.0
NAMES = {"controller": "ServeController", "proxy": "ProxyActor"}


def processes(part: str) -> list[psutil.Process]:
    """The processes of a part, by the names that Ray gives them."""
    wanted = NAMES.get(part, f"ServeReplica:unmask:{part}")
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if wanted in " ".join(child.cmdline()):
                found.append(child)
    return found


def send(graph: Service, timeout_s: float = 120) -> str:
    """An analysis that was accepted, asked again while nobody answers."""
    until = time.monotonic() + timeout_s
    while time.monotonic() < until:
        with contextlib.suppress(httpx.HTTPError):
            answer = graph.post()
            if answer.status_code == 202:
                return str(answer.headers["location"])
        time.sleep(0.2)
    raise TimeoutError(f"no upload was accepted within {timeout_s:g} s")


def kill(graph: Service, part: str, right: tuple[str, float]) -> dict[str, Any]:
    """What became of the analyses, and the seconds from the kill until one sent after it was done."""
    under_way = [send(graph) for _ in range(UNDER_WAY)]
    time.sleep(0.3)
    victims = processes(part)
    if not victims:
        raise RuntimeError(f"no process of {part} was found")
    began = time.monotonic()
    for victim in victims:
        victim.kill()
    graph.ended(after := send(graph))
    back = time.monotonic() - began
    ends = [graph.ended(where) for where in [*under_way, after]]
    answers = [(end["result"]["verdict"], end["result"]["score"]) for end in ends if end["status"] == "done"]
    wrong = [one for one in answers if one[0] != right[0] or abs(one[1] - right[1]) > 1e-4]
    return {"back": back, "lost": len(ends) - len(answers), "wrong": len(wrong)}


def run() -> list[dict[str, Any]]:
    """Rows {bench, metric, value, unit, baseline, n}: three for each part."""
    rows: list[dict[str, Any]] = []
    with service() as graph:
        result = graph.ended(send(graph))["result"]
        right = (result["verdict"], result["score"])
        for part in PARTS:
            found = kill(graph, part, right)
            print(f"{part}: {found}", file=sys.stderr, flush=True)
            rows += [
                {"metric": f"{part} killed: answers again", "value": round(found["back"], 1), "unit": "s",
                 "baseline": TARGET_S},
                {"metric": f"{part} killed: lost or failed", "value": found["lost"], "unit": "analyses", "baseline": 0},
                {"metric": f"{part} killed: wrong answers", "value": found["wrong"], "unit": "analyses", "baseline": 0},
            ]  # fmt: skip
            time.sleep(5)
    return [{"bench": "faults", "n": UNDER_WAY + 1, **row} for row in rows]


if __name__ == "__main__":
    print(json.dumps(run(), indent=1))
