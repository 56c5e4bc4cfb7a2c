"""The detectors of a group are asked together: one call brings a face to all of them, and each answer comes when it is
there. A call each would cost ten of them a tenth of an image's time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from detectors.steps import TrackPrediction


@dataclass(frozen=True)
class Wish:
    """One detector's answer for one track, by the weights of `sha256`: of `samples`, which are references, lists of
    them for clips, or the rows themselves; with `maps` heatmaps."""

    name: str
    sha256: str
    samples: Sequence[Any] | NDArray[Any]
    maps: int


@dataclass
class _Call:
    """Wishes that travel together, and what waits for each of them."""

    wishes: list[Wish] = field(default_factory=list)
    answers: list[asyncio.Future[TrackPrediction]] = field(default_factory=list)
    running: asyncio.Task[None] | None = None


class GroupCalls:
    """For one analysis: what is wished of a group in one turn of the loop goes in one call.

    Never two faces: another replica may take the next. `lost` tells of what the call raised what it means and, of
    nothing, that the stream ended before its time.
    """

    def __init__(self, groups: Mapping[str, Any], analysis: str, lost: Callable[[Exception | None], Exception]) -> None:
        self._groups, self._analysis, self._lost = groups, analysis, lost
        self._next: dict[str, _Call] = {}

    async def ask(self, group: str, wish: Wish) -> TrackPrediction:
        """Raises what the detector raised, OtherWeights among it, and what `lost` tells."""
        call = self._next.get(group)
        if call is not None and any(other.name == wish.name for other in call.wishes):
            self._send(group, call)
            call = None
        loop = asyncio.get_running_loop()
        if call is None:
            call = self._next[group] = _Call()
            loop.call_soon(self._send, group, call)
        answer: asyncio.Future[TrackPrediction] = loop.create_future()
        call.wishes.append(wish)
        call.answers.append(answer)
        try:
            return await answer
        except asyncio.CancelledError:
            if call.running is not None and all(one.done() for one in call.answers):
                call.running.cancel()
            raise

    def _send(self, group: str, call: _Call) -> None:
        if call.running is not None:
            return
        if self._next.get(group) is call:
            del self._next[group]
        call.running = asyncio.create_task(self._run(group, call))

    async def _run(self, group: str, call: _Call) -> None:
        waiting = [n for n, answer in enumerate(call.answers) if not answer.done()]
        if not waiting:  # cancelled in the same turn
            return
        wishes = [call.wishes[n] for n in waiting]
        answered: Any = None
        fault: Exception | None = None
        try:
            answered = self._groups[group].options(stream=True).detect.remote(self._analysis, wishes)
            async for ended in answered:
                for number, found in ended:
                    answer = call.answers[waiting[number]]
                    if answer.done():  # nobody waits any more
                        continue
                    if isinstance(found, Exception):
                        answer.set_exception(found)
                    else:
                        answer.set_result(found)
        except Exception as error:
            fault = error
        finally:
            if not all(answer.done() for answer in call.answers):
                why = self._lost(fault)
                for answer in call.answers:
                    if not answer.done():
                        answer.set_exception(why)
            if answered is not None:
                answered.cancel()


def portable(error: Exception) -> Exception:
    """An error that travels between processes: one of Python's own or of ours, or its text."""
    if type(error).__module__ in ("builtins", "serve.graph", "preprocessing.errors"):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


async def crops_of(samples: Sequence[Any], fetched: dict[Any, asyncio.Future[Any]]) -> NDArray[np.uint8]:
    """The crops of samples, (N, H, W, 3), of clips (N, length, H, W, 3); `fetched` keeps what was fetched for others
    of the same call."""
    clips = [one if isinstance(one, list) else [one] for one in samples]
    parcels = dict.fromkeys(sample.parcel for clip in clips for sample in clip)
    for parcel in parcels:
        if parcel not in fetched:
            fetched[parcel] = asyncio.ensure_future(_get(parcel))
    got = {parcel: await fetched[parcel] for parcel in parcels}
    pixels = np.stack([np.stack([got[one.parcel][one.spec][one.face] for one in clip]) for clip in clips])
    return pixels if isinstance(samples[0], list) else pixels[:, 0]


async def _get(reference: Any) -> Any:
    return await reference
