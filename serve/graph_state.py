"""What Serve says of the graph's deployments, and what their replicas have in hand, for an operator."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Mapping
from typing import Any

log = logging.getLogger("unmask.graph")
ANSWER_S = 5.0
"""Who does not answer for so long has nothing to tell."""


async def look(runner: Any) -> dict[str, Any]:
    """`application`: its state; `parts`: {name: {status, message, replicas, in_hand}}, whatever of it is to be had.

    Serve's controller is asked here and not by the runner: where the runner is gone, this is what shows it.
    """
    serve, held = await asyncio.gather(
        _or_nothing(asyncio.to_thread(_serve), "Serve's state"),
        _or_nothing(_held(runner), "what the parts have in hand"),
    )
    parts: dict[str, dict[str, Any]] = {name: dict(part) for name, part in serve.get("parts", {}).items()}
    for name, steps in held.items():
        parts.setdefault(name, {})["in_hand"] = steps
    return {"application": serve.get("application", ""), "parts": parts}


async def _or_nothing(asked: Any, what: str) -> dict[str, Any]:
    try:
        async with asyncio.timeout(ANSWER_S):
            found: dict[str, Any] = await asked
    except Exception as error:  # whatever Ray raises: an operator is shown the rest
        log.warning("%s is not known: %s", what, type(error).__name__)
        return {}
    return found


async def _held(runner: Any) -> dict[str, Any]:
    found: dict[str, Any] = await runner.in_hand.remote()
    return found


def _serve() -> dict[str, Any]:
    """Of the application that has a deployment called Gateway: this process's own."""
    from ray import serve as rayserve

    for application in rayserve.status().applications.values():
        if "Gateway" in application.deployments:
            parts = {
                part_name(name): {
                    "status": str(getattr(one.status, "value", one.status)),
                    "message": str(one.message),
                    "replicas": {str(getattr(s, "value", s)): int(n) for s, n in one.replica_states.items()},
                }
                for name, one in application.deployments.items()
            }
            return {"application": str(getattr(application.status, "value", application.status)), "parts": parts}
    return {}


def part_name(deployment: str) -> str:
    """As `ready` calls it: "Tracking" is "tracking", "Group-gpu" is "group gpu"."""
    kind, dash, rest = deployment.partition("-")
    return f"{kind.lower()}{' ' if dash else ''}{rest}"


async def in_hand(parts: Mapping[str, Any]) -> dict[str, dict[str, int]]:
    """Of each part, by its handle: steps under way in all its replicas, those that answer."""

    async def of(handle: Any) -> dict[str, int]:
        total: Counter[str] = Counter()
        try:
            answers = await handle.broadcast("load").results_async(timeout_s=ANSWER_S / 2, return_exceptions=True)
        except Exception:
            return {}
        for answer in answers:
            if isinstance(answer, dict):
                total.update(answer)
        return dict(total)

    found = await asyncio.gather(*(of(handle) for handle in parts.values()))
    return dict(zip(parts, found, strict=True))
