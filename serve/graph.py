"""The graph as a runner knows it: handles of its parts, and what the groups say of their detectors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detectors.scoring import DetectorInfo

log = logging.getLogger("unmask.graph")
AGAIN_S = 5.0
"""Until a group that failed to answer is asked again."""


class OtherWeights(Exception):
    """A detector has other weights than those that its answer would be read by."""


@dataclass
class Graph:
    """Handles of the deployments, and what they said of themselves: `owner` names each detector's group."""

    tracking: Any
    landmarks: Any
    groups: Mapping[str, Any]
    extractor: str
    infos: dict[str, DetectorInfo] = field(default_factory=dict)
    owner: dict[str, str] = field(default_factory=dict)
    _cards: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    _asking: list[asyncio.Task[None]] = field(default_factory=list)

    async def ask(self, group: str) -> None:
        """Takes in what a group says of its detectors now."""
        there: dict[str, DetectorInfo] = await self.groups[group].infos.remote()
        cards = await self.groups[group].cards.remote()
        for name in [name for name, key in self.owner.items() if key == group and name not in there]:
            self.infos.pop(name, None)
        self.infos |= there
        self.owner |= dict.fromkeys(there, group)
        self._cards[group] = [{**card, "group": group} for card in cards]

    async def meet(self, wait_s: float) -> None:
        """Asks all groups. Those that have not answered after `wait_s` may come later: nothing waits for them, as long
        as one is there. A detector of theirs takes no part until then."""
        tasks = {asyncio.create_task(self._until_it_answers(group)): group for group in self.groups}
        self._asking = list(tasks)
        done, late = await asyncio.wait(tasks, timeout=wait_s)
        if not done:
            _, late = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            log.error("analyses begin without group %s, which does not answer", tasks[task])

    async def _until_it_answers(self, group: str) -> None:
        while True:
            try:
                await self.ask(group)
                return
            except Exception as error:  # whatever Ray raises: Serve starts its replicas again
                log.warning("group %s does not answer: %s", group, type(error).__name__)
            await asyncio.sleep(AGAIN_S)

    @property
    def absent(self) -> list[str]:
        """Groups that have not said yet which detectors they have."""
        return [group for group in self.groups if group not in self._cards]

    def cards(self, named: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
        """Of all detectors, by name; `named`: those of each group that the configuration names."""
        found = [card for cards in self._cards.values() for card in cards]
        for group in self.absent:
            why = f"its group ({group}) does not answer"
            found += [{"name": name, "available": False, "reason": why, "group": group} for name in named[group]]
        return sorted(found, key=lambda card: str(card["name"]))
