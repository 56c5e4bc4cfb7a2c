"""Few fakes among many real videos, or the other way round: batches that always hold some of the rarer class.

An AUC loss (detectors/methods/dual_level/losses.py) needs both classes in a batch. With one fake for 20 real videos,
46 % of random batches of 16 have none (Pu et al., Pattern Recognition 130, 2022, study up to 1:200).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from train.recipe import EpochDataset, RecipeError


class BalancedOrder(Sampler[int]):
    """Indices in an order whose every `batch` consecutive ones hold at least `minimum` of the rarer class.

    The more frequent class comes in its own shuffled order, each item at most once an epoch; what does not fill a last
    batch is left out, other items in each epoch. The rarer class is gone through again and again, in a new order each
    time, so that no item is ever two turns ahead of another. Where it is frequent enough it keeps its natural share.
    Everything follows from (`seed`, `epoch`); set `epoch` before each pass.
    """

    def __init__(self, labels: NDArray[np.floating] | NDArray[np.integer], batch: int, seed: int, minimum: int = 1):
        """`labels` (N,): above 0.5 is fake. Raises ValueError for one class alone, or a batch that cannot hold both."""
        fake = np.asarray(labels) > 0.5
        classes = sorted((np.flatnonzero(fake), np.flatnonzero(~fake)), key=len)
        self.rare, self.frequent = classes
        if not len(self.rare):
            raise ValueError(
                f"all {len(fake)} training items are {'fake' if fake.all() else 'real'}: add the other class"
            )
        if not 1 <= minimum < batch:
            raise ValueError(f"a batch of {batch} cannot hold {minimum} of one class and any of the other")
        natural = round(batch * len(self.rare) / len(fake))
        self.share = min(max(minimum, natural), batch - 1)
        """Items of the rarer class in each batch."""
        self.batch, self.seed, self.epoch = batch, seed, 0

    @property
    def batches(self) -> int:
        """In an epoch; at least one, in which the frequent class may then repeat too."""
        return max(len(self.frequent) // (self.batch - self.share), 1)

    def __len__(self) -> int:
        return self.batches * self.batch

    def __iter__(self) -> Iterator[int]:
        # 0x1B tells this stream from others that draw for the same seed and epoch.
        rng = np.random.default_rng([self.seed, self.epoch, 0x1B])
        frequent = _turns(self.frequent, self.batches * (self.batch - self.share), rng)
        rare = _turns(self.rare, self.batches * self.share, rng)
        rows = [frequent.reshape(self.batches, -1), rare.reshape(self.batches, -1)]
        return iter(np.concatenate(rows, axis=1).ravel().tolist())


def _turns(items: NDArray[np.int64], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """`count` of `items`, permutation after permutation."""
    repeats = -(-count // len(items))
    return np.concatenate([rng.permutation(items) for _ in range(repeats)])[:count]


def thin_fakes(labels: NDArray[np.floating] | NDArray[np.integer], ratio: int, seed: int) -> NDArray[np.int64]:
    """Rows, in order, of a set with one fake for `ratio` real videos: all r real ones, floor(r / ratio) of the fakes.

    For training only: a test set keeps all it has, else its AUC hangs on a handful of videos. Raises ValueError where
    there are fewer fakes than that, or none would be left.
    """
    fake = np.asarray(labels) > 0.5
    real, fakes = np.flatnonzero(~fake), np.flatnonzero(fake)
    wanted = len(real) // ratio
    if not 1 <= wanted <= len(fakes):
        raise ValueError(
            f"1 fake for {ratio} real needs {wanted} fakes of {len(real)} real videos; there are {len(fakes)}"
        )
    kept = np.random.default_rng([seed, ratio]).choice(fakes, wanted, replace=False)
    return np.sort(np.concatenate([real, kept]))


class Singles(EpochDataset):
    """Real and fake samples of a data set of pairs as items of their own, so that their numbers can differ.

    Items are all real samples, then the fakes; with `ratio` one fake for so many real ones, as `thin_fakes` draws them.
    A fake is the one its pair would have, also where the real sample of that pair is another item of the epoch.
    """

    labels: NDArray[np.float32]

    def __init__(self, pairs: EpochDataset, ratio: int | None, seed: int, where: str) -> None:
        """Raises RecipeError, its message begun by `where`: items that hold no pair, or too few for the ratio."""
        if pairs.labels is not None or (len(pairs) and not np.array_equal(pairs[0]["label"], [0, 1])):
            raise RecipeError(f"{where}: singles takes data whose items are a real sample and its fake")
        both = np.repeat(np.array([0, 1], np.float32), len(pairs))
        try:
            self.rows = np.arange(len(both)) if ratio is None else thin_fakes(both, ratio, seed)
        except ValueError as error:
            raise RecipeError(f"{where}: {error}") from error
        self.pairs, self.labels = pairs, both[self.rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        fake, place = divmod(int(self.rows[index]), len(self.pairs))
        self.pairs.epoch = self.epoch
        return {key: value[fake : fake + 1] for key, value in self.pairs[place].items()}
