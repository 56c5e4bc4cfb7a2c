"""Splits in which no person is on two sides."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

from preprocessing.datasets.items import SPLITS, Item, some

SHARES = {"train": 0.72, "val": 0.14, "test": 0.14}
"""FaceForensics++'s own shares."""


def identity_groups(items: Sequence[Item]) -> list[str]:
    """For each item the name of its group: items that share an identity, directly or through others, share it.

    An item without identities is a group of its own.
    """
    parents: dict[str, str] = {}

    def top(name: str) -> str:
        parents.setdefault(name, name)
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = parents[name]
        return name

    for item in items:
        for other in item.identities[1:]:
            one, two = sorted((top(item.identities[0]), top(other)))
            parents[two] = one
    return [top(item.identities[0]) if item.identities else item.path for item in items]


def split_by_groups(items: Sequence[Item], seed: int, shares: Mapping[str, float] = SHARES) -> list[Item]:
    """The items with a split each, whole identity groups together; the same for the same items and seed.

    Groups come in an order drawn from the seed and fill the splits to their shares of the items, the largest lack
    first. A group larger than any share (everyone swapped with everyone) makes shares impossible: see `shares_missed`.
    """
    groups = identity_groups(items)
    sizes = Counter(groups)
    wanted = {name: share * len(items) for name, share in shares.items()}
    given = dict.fromkeys(shares, 0)
    chosen: dict[str, str] = {}
    # Large groups first: they fit worst.
    for group in sorted(sizes, key=lambda g: (-sizes[g], _draw(seed, g))):
        split = max(wanted, key=lambda name: (wanted[name] - given[name]) / max(wanted[name], 1e-9))
        chosen[group] = split
        given[split] += sizes[group]
    return [replace(item, split=chosen[group]) for item, group in zip(items, groups, strict=True)]


def split_by_people(items: Sequence[Item], seed: int, shares: Mapping[str, float] = SHARES) -> list[Item]:
    """For sets where everyone is swapped with everyone: people are split, and items whose people fall into different
    splits get none (""). Each person's side is drawn from the seed alone, so adding videos moves nobody."""
    bounds = []
    below = 0.0
    for name, share in shares.items():
        below += share
        bounds.append((below, name))

    def side(person: str) -> str:
        draw = _draw(seed, person) * below
        return next(name for bound, name in bounds if draw < bound)

    made = []
    for item in items:
        sides = {side(person) for person in item.identities or (item.path,)}
        made.append(replace(item, split=sides.pop() if len(sides) == 1 else ""))
    return made


def leaks(items: Sequence[Item]) -> dict[tuple[str, str], set[str]]:
    """The identities that two splits share; empty where the split keeps people apart."""
    people: dict[str, set[str]] = defaultdict(set)
    for item in items:
        if item.split:
            people[item.split].update(item.identities)
    pairs = [(a, b) for i, a in enumerate(SPLITS) for b in SPLITS[i + 1 :]]
    return {pair: both for pair in pairs if (both := people[pair[0]] & people[pair[1]])}


def split_notes(items: Sequence[Item]) -> list[str]:
    """What a person should know of the split: shared people, empty sides, items without a side."""
    told = [
        f"{len(people)} people are in both {one} and {other} ({some(people)}): figures on {other} are optimistic"
        for (one, other), people in leaks(items).items()
    ]
    counts = Counter(item.split for item in items)
    if counts[""] and len(counts) > 1:
        told.append(f"{counts['']} of {len(items)} items belong to no split")
    empty = [name for name in ("train", "test") if not counts[name]]
    groups = Counter(identity_groups(items))
    largest = max(groups.values(), default=0)
    if empty and len(items) > 1 and counts[""] < len(items) and largest * 2 > len(items):
        told.append(
            f"no item is left for {' and '.join(empty)}: {largest} of {len(items)} items hang together through shared"
            " people; --split people parts the people and leaves out the items between them"
        )
    return told


def _draw(seed: int, name: str) -> float:
    return int(hashlib.sha256(f"{seed}/{name}".encode()).hexdigest()[:12], 16) / 2**48
