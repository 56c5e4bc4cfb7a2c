"""What an operator sees of the service: queue, parts, latencies, refusals, failures, drift; nobody else does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gateway_api import Api, refusal
from results import detector, face, result

from preprocessing.settings import Settings
from serve.access import Tokens
from serve.graph_state import in_hand, part_name
from serve.meters import quantile
from serve.operations import FUSED, drift, figures
from serve.settings import GatewayArgs
from serve.store import Ended
from serve.tracing import during, under_way


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    made = Api(tmp_path, GatewayArgs(max_queued=9, min_free_bytes=0), Settings())
    with made.http:
        yield made
    made.store.close()


def done(api: Api, score: float = 0.9) -> None:
    """An analysis that gave a result."""
    api.post()
    job = api.store.lease("x", 10, 3)
    assert job is not None
    made = result("fake", [face(fused=score)], timings={"tracking": 0.5, "detectors": 1.5})
    assert api.store.finish(job.id, "x", made.model_dump_json(by_alias=True), "fake", score)


def test_the_queue_the_latencies_and_the_refusals_are_there(api: Api) -> None:
    done(api)
    api.post(b"no picture")
    api.post()
    api.services.graph = graph
    found = api.http.get("/v1/operations").json()
    queue = found["queue"]
    assert (queue["queued"], queue["done"], queue["max_queued"]) == (1, 1, 9) and queue["oldest_wait_s"] > 0
    assert found["analyses"] == 1 and found["took"]["n"] == 1 and found["outcomes"] == {"fake": 1}
    assert found["stages"]["detectors"] == {"n": 1, "median": 1.5, "p95": 1.5, "most": 1.5}
    uploads = next(one for one in found["requests"] if (one["method"], one["route"]) == ("POST", "/v1/analyses"))
    assert uploads["answers"] == {"202": 2, "415": 1} and 0 < uploads["median_s"] <= uploads["p95_s"]
    runner = next(part for part in found["parts"] if part["name"] == "runner")
    assert runner == {
        "name": "runner", "ready": True, "status": "HEALTHY", "message": "", "replicas": {"RUNNING": 2},
        "in_hand": {"analysis": 3},
    }  # fmt: skip
    assert found["application"] == "RUNNING"


async def graph() -> dict[str, Any]:
    part = {"status": "HEALTHY", "message": "", "replicas": {"RUNNING": 2}, "in_hand": {"analysis": 3}}
    return {"application": "RUNNING", "parts": {"runner": part}}


def test_only_an_operator_sees_it_and_everyone_is_told_who_they_are(api: Api) -> None:
    assert api.http.get("/v1/caller").json() == {"name": "", "role": "operator"}
    tokens = Tokens(api.folder / "tokens.json")
    ann, ops = tokens.add("ann", "analyst"), tokens.add("ops", "operator")
    as_ann, as_ops = ({"Authorization": f"Bearer {token}"} for token in (ann, ops))
    assert "operator" in refusal(api.http.get("/v1/operations", headers=as_ann), 403, "role")
    assert api.http.get("/v1/operations", headers=as_ops).status_code == 200
    assert api.http.get("/v1/caller", headers=as_ann).json() == {"name": "ann", "role": "analyst"}
    refusal(api.http.get("/v1/caller"), 401, "token")


def test_a_service_that_did_nothing_yet_has_no_latencies(api: Api) -> None:
    found = api.http.get("/v1/operations").json()
    assert found["analyses"] == 0 and found["took"] is None and found["scores"] == {} and found["since"] is None


def ended(when: float, score: float | None, status: str = "ok") -> Ended:
    made = result("fake", [face(fused=score, detectors={"mesonet": detector(score, status=status)})])
    return Ended(when, when + 1, when + 3, "done", "fake", None, made.model_dump_json(by_alias=True))


def test_scores_that_move_are_drift_and_few_scores_are_not() -> None:
    rng = np.random.default_rng(0)
    older = [ended(i, s) for i, s in enumerate(rng.uniform(0, 0.4, 60))]
    newer = [ended(100 + i, s) for i, s in enumerate(rng.uniform(0.5, 1, 60))]
    found = figures([*reversed(newer), *reversed(older)])
    moved = found["scores"]["mesonet"]
    assert moved.distance == 1.0 and moved.p < 1e-6
    assert sum(moved.newer[5:]) == 60 and sum(moved.older[:5]) == 60 and found["scores"][FUSED].distance == 1.0
    assert found["waited"].median == 1 and found["took"].median == 2
    assert drift([0.1] * 29, [0.9] * 100).distance is None
    same = rng.uniform(0, 1, 200)
    assert drift(list(same[:100]), list(same[100:])).p > 0.01


def test_failures_are_counted_by_their_code_and_by_detector() -> None:
    lost = Ended(0, 1, 2, "failed", None, "deadline", None)
    found = figures([ended(5, None, "failed"), ended(4, None, "timeout"), lost])
    assert found["outcomes"] == {"fake": 2, "deadline": 1}
    assert found["detectors"] == {"mesonet": {"failed": 1, "timeout": 1}}


def test_the_store_gives_the_newest_that_ended_within_its_bounds(api: Api) -> None:
    for score in (0.1, 0.2, 0.3):
        done(api, score)
    found = api.store.ended(2, 10**9)
    assert [one.verdict for one in found] == ["fake", "fake"] and found[0].finished >= found[1].finished
    size = len(found[0].result or "")
    assert len(api.store.ended(9, 2 * size + size // 2)) == 2


def test_quantiles_of_a_histogram_are_between_its_bounds() -> None:
    below = [(0.1, 0.0), (0.2, 10.0), (0.4, 20.0), (float("inf"), 20.0)]
    assert quantile(below, 0.5) == pytest.approx(0.2) and quantile(below, 0.75) == pytest.approx(0.3)
    assert quantile([(0.1, 0.0), (float("inf"), 4.0)], 0.5) == 0.1 and quantile([], 0.5) is None


def test_what_a_process_has_in_hand_is_counted_while_it_has_it() -> None:
    with during("0" * 32, "mesonet"), during("1" * 32, "mesonet"):
        assert under_way()["mesonet"] == 2
    assert "mesonet" not in under_way()
    with pytest.raises(ValueError), during("0" * 32, "lrnet"):
        raise ValueError
    assert "lrnet" not in under_way()


class Handle:
    """As Serve's: two replicas, one of which is dying."""

    def broadcast(self, method: str) -> Handle:
        assert method == "load"
        return self

    async def results_async(self, timeout_s: float, return_exceptions: bool) -> list[Any]:
        return [{"mesonet": 2}, RuntimeError("gone"), {"mesonet": 1, "lrnet": 1}]


class Gone(Handle):
    async def results_async(self, timeout_s: float, return_exceptions: bool) -> list[Any]:
        raise TimeoutError


async def _held() -> dict[str, dict[str, int]]:
    return await in_hand({"group detectors": Handle(), "tracking": Gone()})


def test_the_replicas_of_a_part_are_added_up() -> None:
    import asyncio

    assert asyncio.run(_held()) == {"group detectors": {"mesonet": 3, "lrnet": 1}, "tracking": {}}
    assert [part_name(name) for name in ("Tracking", "Group-gpu-a", "Gateway")] == [
        "tracking",
        "group gpu-a",
        "gateway",
    ]
