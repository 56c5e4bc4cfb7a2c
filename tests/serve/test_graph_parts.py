"""Groups of detectors that come late, die or get other weights: what a runner does of it.

Ray is imported within the tests: it reads its environment then, and those of the whole service set that first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from local_api import untrained

from detectors.local import describe_detector
from detectors.steps import TrackingSummary
from detectors.store import LoadedDetector
from serve import graph as graph_module
from serve.graph import Graph, OtherWeights
from serve.groups import DetectorGroup
from serve.runner import PartLost
from serve.settings import GroupArgs


class Group:
    """A handle in this process: `answer` tells whether, and with what."""

    def __init__(self, loaded: dict[str, LoadedDetector]) -> None:
        self.loaded = loaded
        self.there = asyncio.Event()
        self.faults = 0

    def __getattr__(self, method: str) -> Any:
        class Remote:
            @staticmethod
            def remote(*given: Any) -> Awaitable[Any]:
                return self._call(method, *given)

        return Remote

    async def _call(self, method: str, *given: Any) -> Any:
        await self.there.wait()
        if self.faults:
            self.faults -= 1
            from ray.exceptions import RayActorError

            raise RayActorError()
        if method == "infos":
            return {name: describe_detector(one) for name, one in self.loaded.items()}
        if method == "cards":
            return [{"name": name, "available": True} for name in self.loaded]
        _, name, sha256, *_ = given
        if self.loaded[name].card.sha256 != sha256:
            raise OtherWeights(name)
        return "a prediction"


@pytest.fixture(scope="module")
def detectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, LoadedDetector]:
    return untrained(tmp_path_factory.mktemp("weights"))


def stages(graph: Graph) -> Any:
    from serve.stages import RayStages

    return RayStages(graph, "id")


def run(case: Callable[[Group, Group, Graph], Awaitable[None]], loaded: dict[str, LoadedDetector]) -> None:
    """With a group that is there and one that is not yet."""

    async def work() -> None:
        here, late = Group({"mesonet": loaded["mesonet"]}), Group({"lrnet": loaded["lrnet"]})
        here.there.set()
        await case(here, late, Graph(None, None, {"here": here, "late": late}, "dlib68"))

    asyncio.run(asyncio.wait_for(work(), 20))


def test_a_group_that_nobody_can_place_does_not_hold_up_the_others(detectors: dict[str, LoadedDetector]) -> None:
    async def case(here: Group, late: Group, graph: Graph) -> None:
        await graph.meet(0.05)
        assert set(graph.infos) == {"mesonet"} and graph.absent == ["late"]
        told = stages(graph)._told(TrackingSummary(1, (), False))
        assert told.incomplete and told.warnings == ("not all detectors took part: of late nothing answers",)
        card = next(card for card in graph.cards({"here": (), "late": ("lrnet",)}) if card["name"] == "lrnet")
        assert card["available"] is False and "late" in card["reason"]
        late.there.set()
        while graph.absent:
            await asyncio.sleep(0.01)
        assert set(graph.infos) == {"mesonet", "lrnet"} and graph.owner["lrnet"] == "late"
        assert stages(graph)._told(TrackingSummary(1, (), False)) == TrackingSummary(1, (), False)

    run(case, detectors)


def test_a_group_that_dies_while_it_is_asked_is_asked_again(
    detectors: dict[str, LoadedDetector], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_module, "AGAIN_S", 0.01)

    async def case(here: Group, late: Group, graph: Graph) -> None:
        late.there.set()
        late.faults = 2
        await graph.meet(10)
        assert graph.absent == [] and set(graph.infos) == {"mesonet", "lrnet"}

    run(case, detectors)


def test_without_any_detector_no_analysis_begins(detectors: dict[str, LoadedDetector]) -> None:
    async def case(here: Group, late: Group, graph: Graph) -> None:
        here.there.clear()
        met = asyncio.create_task(graph.meet(0.01))
        await asyncio.sleep(0.1)
        assert not met.done()
        here.there.set()
        await met

    run(case, detectors)


def test_answers_of_other_weights_are_not_read_by_the_old_card(
    detectors: dict[str, LoadedDetector], tmp_path: Path
) -> None:
    async def case(here: Group, late: Group, graph: Graph) -> None:
        await graph.meet(0.05)
        before = stages(graph)
        assert await before.detect("mesonet", [], 0) == "a prediction"
        card = detectors["mesonet"].card.model_copy(update={"sha256": "f" * 64})
        here.loaded = {"mesonet": LoadedDetector(detectors["mesonet"].detector, card)}
        with pytest.raises(PartLost, match="weights of mesonet were changed"):
            await before.detect("mesonet", [], 0)
        assert before.lost, "so the analysis is run again"
        assert await stages(graph).detect("mesonet", [], 0) == "a prediction"

    run(case, detectors)


def test_a_group_refuses_to_answer_for_weights_that_it_does_not_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNMASK_WEIGHTS", str(tmp_path))
    group = DetectorGroup(GroupArgs(detectors=("mesonet",), device="cpu"), frozenset(), ())
    with pytest.raises(OtherWeights):
        asyncio.run(group.detect("id", "mesonet", "0" * 64, [], 0))


@pytest.mark.parametrize(("given", "device"), [([], "cpu"), (["0"], "cuda")])
def test_a_replica_takes_a_gpu_only_where_ray_gave_it_one(
    given: list[str], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a machine with a GPU Ray hides it from nobody, whatever a replica asked for."""
    import torch

    from serve.groups import device_for

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    context = type("Context", (), {"get_accelerator_ids": lambda self: {"GPU": given}})()
    monkeypatch.setattr("ray.get_runtime_context", lambda: context)
    assert device_for("auto") == device and device_for("cpu") == "cpu"
