"""Every batch holds the rarer class, the other keeps its order, and an epoch can be repeated bit for bit."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_training import Pairs, Plain, recipe, run
from torch import Tensor
from torch.utils.data import DataLoader

from detectors.base import DetectorOutput, Truth
from train.imbalance import BalancedOrder, Singles, thin_fakes
from train.recipe import DataSplits, RecipeError


def labels_of(real: int, fake: int) -> np.ndarray:
    return np.random.default_rng(0).permutation(np.repeat([0.0, 1.0], [real, fake]))


@given(st.integers(1, 60), st.integers(1, 60), st.integers(2, 16), st.integers(0, 5), st.data())
def test_every_batch_holds_the_rarer_class(real: int, fake: int, batch: int, epoch: int, data: st.DataObject) -> None:
    minimum = data.draw(st.integers(1, batch - 1))
    labels = labels_of(real, fake)
    order = BalancedOrder(labels, batch, seed=1, minimum=minimum)
    order.epoch = epoch
    drawn = np.array(list(order)).reshape(-1, batch)
    assert drawn.size == len(order)
    rarer = 1.0 if fake < real else 0.0
    if real == fake:
        assert set(labels[drawn].sum(1)) <= {order.share, batch - order.share}
    else:
        held = (labels[drawn] == rarer).sum(1)
        assert held.min() == held.max() == order.share >= minimum
    assert all(0 < row.sum() < batch for row in labels[drawn])


def test_random_batches_do_not() -> None:
    labels = labels_of(2000, 100)
    rng = np.random.default_rng(0)
    without = np.mean([not labels[rng.permutation(len(labels))[:16]].any() for _ in range(4000)])
    assert without == pytest.approx((20 / 21) ** 16, abs=0.03)


def test_the_frequent_class_comes_once_and_the_rare_one_in_turns() -> None:
    labels = labels_of(330, 7)
    order = BalancedOrder(labels, 16, seed=3, minimum=2)
    counts = Counter(order)
    frequent = [counts[i] for i in np.flatnonzero(labels == 0)]
    rare = [counts[i] for i in np.flatnonzero(labels == 1)]
    assert set(frequent) <= {0, 1} and sum(frequent) == 330 // 14 * 14
    assert max(rare) - min(rare) <= 1 and sum(rare) == 330 // 14 * 2


def test_how_many_rare_ones_a_batch_holds_does_not_change_the_order_of_the_others() -> None:
    labels = labels_of(120, 4)
    one, three = (list(BalancedOrder(labels, 8, seed=5, minimum=k)) for k in (1, 3))
    first, second = ([i for i in drawn if labels[i] == 0] for drawn in (one, three))
    shared = min(len(first), len(second))
    assert first[:shared] == second[:shared]


def test_a_balanced_set_keeps_its_shares() -> None:
    order = BalancedOrder(labels_of(64, 64), 16, seed=0)
    assert order.share == 8
    assert sorted(order) == list(range(128))


def test_the_order_follows_from_seed_and_epoch() -> None:
    order, same = (BalancedOrder(labels_of(50, 5), 8, seed=2) for _ in range(2))
    assert list(order) == list(order) == list(same)
    order.epoch = 1
    assert list(order) != list(same)
    assert list(BalancedOrder(labels_of(50, 5), 8, seed=4)) != list(same)


def test_a_loader_makes_its_batches_from_it() -> None:
    labels = labels_of(90, 3)
    loader = DataLoader(labels, batch_size=10, sampler=BalancedOrder(labels, 10, seed=0), drop_last=True)
    batches = list(loader)
    assert len(batches) == 10
    assert all(batch.sum() == 1 for batch in batches)


@pytest.mark.parametrize("labels", [np.zeros(4), np.ones(4), np.zeros(0)])
def test_one_class_alone_is_refused(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="add the other class"):
        BalancedOrder(labels, 2, seed=0)


@pytest.mark.parametrize(("batch", "minimum"), [(1, 1), (8, 8), (8, 0)])
def test_a_batch_that_cannot_hold_both_is_refused(batch: int, minimum: int) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        BalancedOrder(labels_of(9, 3), batch, seed=0, minimum=minimum)


@pytest.mark.parametrize(("ratio", "fakes"), [(10, 71), (20, 35), (30, 23), (100, 7), (200, 3)])
def test_thinning_leaves_the_fakes_of_the_published_subsets(ratio: int, fakes: int) -> None:
    """Celeb-DF v2: 712 real videos to train on."""
    labels = labels_of(712, 5000)
    rows = thin_fakes(labels, ratio, seed=1)
    assert (labels[rows] == 0).sum() == 712 and (labels[rows] == 1).sum() == fakes
    assert len(set(rows.tolist())) == len(rows) and np.array_equal(rows, np.sort(rows))
    assert np.array_equal(rows, thin_fakes(labels, ratio, seed=1))
    assert not np.array_equal(rows, thin_fakes(labels, ratio, seed=2))


@pytest.mark.parametrize(("real", "fake", "ratio"), [(100, 3, 10), (9, 5, 10)])
def test_thinning_needs_enough_of_both(real: int, fake: int, ratio: int) -> None:
    with pytest.raises(ValueError, match="1 fake for 10 real"):
        thin_fakes(labels_of(real, fake), ratio, seed=0)


def test_pairs_become_items_of_their_own() -> None:
    pairs = Pairs(30, 1)
    both, thinned = (Singles(pairs, ratio, 1, "test") for ratio in (None, 10))
    assert len(both) == 60 and both.labels.sum() == 30
    assert len(thinned) == 33 and thinned.labels.sum() == 3
    for epoch in (0, 4):
        thinned.epoch = both.epoch = epoch
        for index, label in enumerate(thinned.labels):
            item = thinned[index]
            assert item["label"].tolist() == [label] and item["inputs"].shape == (1, 6)
            pairs.epoch = epoch
            origin = pairs[int(thinned.rows[index]) % 30]
            assert np.array_equal(item["inputs"][0], origin["inputs"][int(label)])


def test_what_is_no_pair_or_too_few_is_refused() -> None:
    singles = Singles(Pairs(30, 1), None, 1, "test")
    with pytest.raises(RecipeError, match="test: singles takes data whose items are a real sample and its fake"):
        Singles(singles, None, 1, "test")
    with pytest.raises(RecipeError, match="test: 1 fake for 50 real needs 0 fakes"):
        Singles(Pairs(30, 1), 50, 1, "test")


def test_the_loop_trains_on_few_fakes_with_one_in_every_batch(tmp_path: Path) -> None:
    """Some for every step of an AUC loss (Pu et al., 2022, ratio 1:20), drawn in a new order each epoch."""
    seen: list[list[float]] = []

    class Watching(Plain):
        def loss(self, output: DetectorOutput, truth: Truth) -> Tensor:
            if self.training:
                seen.append(truth.label.tolist())
            return super().loss(output, truth)

    settings = recipe(epochs=3, sampling={"singles": True, "ratio": 20, "minimum": 2})
    data = DataSplits(Singles(Pairs(200, 1), 20, 3, "test"), Pairs(100, 2), {})
    result = run(tmp_path, settings, kind=Watching, data=data)
    assert result.best.step == 200 // 14 * 3 == len(seen)
    assert all(sum(labels) == 2 and len(labels) == 16 for labels in seen)
    assert result.best.val_samples == 200, "validation keeps all pairs"
