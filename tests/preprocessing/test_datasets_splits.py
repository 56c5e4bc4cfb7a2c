"""Splits keep people apart, whoever was swapped with whom."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from preprocessing.datasets import Item, identity_groups, leaks, split_by_groups, split_by_people, split_notes

PEOPLE = st.lists(st.lists(st.integers(0, 30), min_size=0, max_size=3), min_size=1, max_size=60)


def items_of(people: list[list[int]]) -> list[Item]:
    return [Item(f"{i}.mp4", i % 2, "set", identities=tuple(f"p{p}" for p in who)) for i, who in enumerate(people)]


@given(PEOPLE, st.integers(0, 5))
def test_no_person_is_ever_in_two_splits(people: list[list[int]], seed: int) -> None:
    items = items_of(people)
    by_groups, by_people = split_by_groups(items, seed), split_by_people(items, seed)
    assert not leaks(by_groups) and not leaks(by_people)
    assert all(item.split for item in by_groups)
    assert by_groups == split_by_groups(items, seed) and by_people == split_by_people(items, seed)


@given(PEOPLE)
def test_groups_join_exactly_those_who_are_linked(people: list[list[int]]) -> None:
    groups = identity_groups(items_of(people))
    for i, one in enumerate(people):
        for j, other in enumerate(people):
            if set(one) & set(other):
                assert groups[i] == groups[j]
    assert len(set(groups)) >= len([who for who in people if not who])


def test_pairs_fill_the_splits_to_their_shares() -> None:
    items = items_of([[2 * i, 2 * i + 1] for i in range(100) for _ in range(3)])
    counts = Counter(item.split for item in split_by_groups(items, 1))
    assert abs(counts["train"] - 216) <= 6 and abs(counts["val"] - 42) <= 6 and abs(counts["test"] - 42) <= 6
    assert split_by_groups(items, 1) != split_by_groups(items, 2)


def test_everyone_swapped_with_everyone_is_told_and_can_be_parted_by_people() -> None:
    items = items_of([[i, j] for i in range(12) for j in range(12)])
    together = split_by_groups(items, 1)
    assert len({item.split for item in together}) == 1
    assert any("hang together" in note and "--split people" in note for note in split_notes(together))
    parted = split_by_people(items, 1)
    assert Counter(item.split for item in parted)["train"] > 0 and any(item.split == "" for item in parted)
    assert any("belong to no split" in note for note in split_notes(parted))


def test_an_official_split_that_shares_people_is_told() -> None:
    items = [Item("a", 0, "s", split="train", identities=("p",)), Item("b", 1, "s", split="test", identities=("p",))]
    assert split_notes(items)[0].startswith("1 people are in both train and test (p)")
