"""Groups of detectors that come late, die or get other weights: what a runner does of it.

Ray is imported within the tests: it reads its environment then, and those of the whole service set that first.
"""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from local_api import untrained
from pydantic import ValidationError

from detectors.local import describe_detector
from detectors.predict import predict
from detectors.steps import TrackingSummary
from detectors.store import LoadedDetector, load
from preprocessing.inputs import FaceInput
from serve import graph as graph_module
from serve.calls import Wish, portable
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
        self.calls: list[list[str]] = []
        self.answers: Any = None
        self.mute: set[str] = set()
        self.ends_early = False

    def __getattr__(self, method: str) -> Any:
        class Remote:
            @staticmethod
            def remote(*given: Any) -> Any:
                return Answers(self, *given) if method == "detect" else self._call(method)

        return Remote

    def options(self, stream: bool) -> "Group":
        return self

    async def _call(self, method: str) -> Any:
        await self.there.wait()
        self.fail()
        if method == "infos":
            return {name: describe_detector(one) for name, one in self.loaded.items()}
        return [{"name": name, "available": True} for name in self.loaded]

    def fail(self) -> None:
        if self.faults:
            self.faults -= 1
            from ray.exceptions import RayActorError

            raise RayActorError()


class Answers:
    """What a call of a group's detect gives: an answer for each wish, the last first; those of `mute` never."""

    def __init__(self, group: Group, analysis: str, wishes: list[Wish]) -> None:
        group.calls.append([wish.name for wish in wishes])
        self._group, self._wishes, self.cancelled = group, wishes, False
        group.answers = self

    async def __aiter__(self) -> AsyncIterator[list[tuple[int, Any]]]:
        self._group.fail()
        for number, wish in reversed(list(enumerate(self._wishes))):
            if wish.name in self._group.mute:
                await asyncio.Event().wait()
            loaded = self._group.loaded.get(wish.name)
            known = loaded is not None and loaded.card.sha256 == wish.sha256
            yield [(number, "a prediction" if known else OtherWeights(wish.name))]
            if self._group.ends_early:
                return

    def cancel(self) -> None:
        self.cancelled = True


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

    async def answers() -> list[Any]:
        return [found async for found in group.detect("id", [Wish("mesonet", "0" * 64, [], 0)])]

    (((number, refused),),) = asyncio.run(answers())
    assert number == 0 and isinstance(refused, OtherWeights)


def both(case: Callable[[Group, Any], Awaitable[None]], loaded: dict[str, LoadedDetector]) -> None:
    """With two detectors in one group."""

    async def work() -> None:
        group = Group({name: loaded[name] for name in ("mesonet", "lrnet")})
        group.there.set()
        graph = Graph(None, None, {"both": group}, "dlib68")
        await graph.meet(5)
        await case(group, stages(graph))

    asyncio.run(asyncio.wait_for(work(), 20))


def test_one_call_brings_a_face_to_all_detectors_of_a_group(detectors: dict[str, LoadedDetector]) -> None:
    async def case(group: Group, asked: Any) -> None:
        wishes = [asked.detect(name, [], 0) for _ in range(2) for name in ("mesonet", "lrnet")]
        assert await asyncio.gather(*wishes) == ["a prediction"] * 4
        assert group.calls == [["mesonet", "lrnet"]] * 2, "the next face may go to another replica"

    both(case, detectors)


def test_a_detector_that_hangs_does_not_hold_back_what_the_others_of_its_call_say(
    detectors: dict[str, LoadedDetector],
) -> None:
    async def case(group: Group, asked: Any) -> None:
        group.mute = {"mesonet"}
        hangs, other = (asyncio.create_task(asyncio.wait_for(asked.detect(name, [], 0), 0.2)) for name in group.loaded)
        assert await other == "a prediction"
        assert group.calls == [["mesonet", "lrnet"]] and not group.answers.cancelled
        with pytest.raises(TimeoutError):
            await hangs
        await asyncio.sleep(0)
        assert group.answers.cancelled, "nobody waits for the call any more"

    both(case, detectors)


@pytest.mark.parametrize("fault", ["dies", "ends early"])
def test_a_group_that_is_lost_costs_the_analysis_all_that_was_not_answered(
    fault: str, detectors: dict[str, LoadedDetector]
) -> None:
    async def case(group: Group, asked: Any) -> None:
        group.faults, group.ends_early = int(fault == "dies"), fault == "ends early"
        found = await asyncio.gather(
            asked.detect("mesonet", [], 0), asked.detect("lrnet", [], 0), return_exceptions=True
        )
        assert isinstance(found[0], PartLost) and asked.lost
        assert isinstance(found[1], PartLost) if fault == "dies" else found[1] == "a prediction"

    both(case, detectors)


def test_a_group_that_cannot_even_be_asked_says_so_at_once(
    detectors: dict[str, LoadedDetector], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def case(group: Group, asked: Any) -> None:
        def refuse(stream: bool) -> None:
            raise RuntimeError("Serve is shutting down")

        monkeypatch.setattr(group, "options", refuse)
        with pytest.raises(RuntimeError, match="shutting down"):
            await asked.detect("mesonet", [], 0)

    both(case, detectors)


def test_an_error_of_a_library_travels_as_its_text() -> None:
    class Odd(Exception):
        pass

    told = portable(Odd("out of memory"))
    assert type(told) is RuntimeError and str(told) == "Odd: out of memory"
    assert type(portable(ValueError("no"))) is ValueError and type(portable(OtherWeights("a"))) is OtherWeights


@pytest.mark.skipif(find_spec("onnxruntime") is None, reason="the extra 'onnx' is not installed")
def test_a_group_on_another_backend_says_so_and_scores_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = load("mesonet").detector.input
    assert isinstance(spec, FaceInput)
    samples = np.random.default_rng(0).integers(0, 256, (2, spec.size, spec.size, 3), np.uint8)

    def answers(backend: str) -> tuple[str, Any]:
        args = GroupArgs.model_validate({"detectors": ["mesonet"], "device": "cpu", "backend": backend})
        group = DetectorGroup(args, frozenset(), ())
        (info,) = asyncio.run(group.infos()).values()
        return info.label, predict(group._step.loaded["mesonet"], samples).logits

    (usual, expected), (label, found) = answers("torch"), answers("onnx")
    assert label == usual.replace("@", "+onnx@")
    assert 0 < np.abs(found - expected).max() < 1e-4, "of another runtime, and the same"
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    args = GroupArgs(detectors=("mesonet",), device="cpu", backend="onnx")
    (without,) = asyncio.run(DetectorGroup(args, frozenset(), ()).cards())
    assert not without["available"] and "unmask-forensics[onnx]" in without["reason"], "no other backend in its place"
    with pytest.raises(ValidationError, match="backend onnx runs on a CPU"):
        GroupArgs(backend="onnx", device="cuda")


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
