"""Gradients of several batches are that of one, whatever their sizes."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from tiny_training import Pairs, Plain, recipe
from torch import Tensor, nn

from detectors.base import Truth
from train.feed import Batch, Feed
from train.guard import largest, listed, out_of_memory
from train.optim import optimiser
from train.ranks import Batches, Ranks
from train.step import Stepper


def whole_batch(samples: int) -> Batch:
    rng = np.random.default_rng(5)
    inputs = torch.from_numpy(rng.normal(size=(samples, 6)).astype(np.float32))
    return Batch(list(range(samples)), inputs, Truth((inputs[:, 0] > 0).float()))


def parts(batch: Batch, *sizes: int) -> Iterator[Batch]:
    start = 0
    for size in sizes:
        end = start + size
        yield Batch(batch.items[start:end], batch.inputs[start:end], Truth(batch.truth.label[start:end]))
        start = end


def stepped(group: list[Batch], **optimising: object) -> tuple[float, int, dict[str, Tensor]]:
    torch.manual_seed(1)
    plain = Plain()
    settings = recipe(optimiser={"name": "sgd", "lr": 0.5, **optimising})
    found = Stepper(plain, settings, Ranks(), optimiser(plain, settings))(group)
    return *found, plain.state_dict()


@pytest.mark.parametrize("optimising", [{}, {"sam": 0.3}, {"clip": 0.01}, {"name": "nadam", "sam": 0.3, "clip": 0.1}])
@pytest.mark.parametrize("sizes", [(12, 12), (20, 3, 1), (24,)])
def test_unequal_batches_make_the_step_of_all_their_samples(
    sizes: tuple[int, ...], optimising: dict[str, object]
) -> None:
    whole = whole_batch(24)
    one, many = stepped([whole], **optimising), stepped(list(parts(whole, *sizes)), **optimising)
    assert many[:2] == (pytest.approx(one[0]), 24)
    for name, value in one[2].items():
        torch.testing.assert_close(many[2][name], value)


def test_a_feed_tells_the_items_of_each_batch_with_any_number_of_workers() -> None:
    net, data = Plain(), Pairs(20, 1)
    for workers in (0, 2):
        batches = Batches(20, 6, Ranks(), 7)
        groups = list(Feed(data, batches, workers, net.targets).groups(2))
        assert [len(group) for group in groups] == [2, 1]
        for batch in (batch for group in groups for batch in group):
            alone = [data[item]["inputs"] for item in batch.items]
            assert np.array_equal(batch.inputs.numpy(), np.concatenate(alone))


def test_part_of_a_batch_keeps_all_that_is_known_of_it() -> None:
    truth = Truth(torch.arange(6.0), torch.ones(6, 4), torch.arange(6), {"map": torch.rand(6, 2, 2)})
    batch = Batch([7, 8, 9], torch.rand(6, 3), truth)
    part = batch.first(2)
    assert part.items == [7, 8] and len(part.inputs) == 4
    assert part.truth.frame_label is not None and part.truth.source is not None
    assert [len(v) for v in (part.truth.label, part.truth.frame_label, part.truth.source, part.truth.maps["map"])] == [
        4
    ] * 4
    twice = batch.first(1).twice()
    assert torch.equal(twice.truth.label, torch.tensor([0.0, 1.0, 0.0, 1.0])) and len(twice.truth.maps["map"]) == 4


def test_trying_how_much_fits_changes_no_weight() -> None:
    torch.manual_seed(1)
    plain = Plain()
    settings = recipe(optimiser={"sam": 0.1})
    stepper = Stepper(plain, settings, Ranks(), optimiser(plain, settings))
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    assert stepper.fitting(whole_batch(24)) == 12
    assert stepper.culprits([1, 2], lambda item: whole_batch(2)) == []
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
    assert all(p.grad is None for p in plain.parameters())


@pytest.mark.parametrize(("items", "room", "fits"), [(16, 11, 8), (15, 3, 3), (16, 0, 0), (1, 5, 0), (9, 100, 4)])
def test_halving_finds_what_fits(items: int, room: int, fits: int) -> None:
    tried: list[int] = []

    def attempt(size: int) -> None:
        tried.append(size)
        if size > room:
            raise torch.OutOfMemoryError("out")

    assert largest(items, attempt) == fits
    assert tried == sorted(tried, reverse=True)


def test_lack_of_memory_is_known_by_what_is_said() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value), "this machine's own allocator"
    assert out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_long_lists_are_cut() -> None:
    assert listed([3, 1, 2]) == "1, 2, 3"
    assert listed(list(range(100))).endswith("62, 63, ... (100 in all)")


def test_half_precision_keeps_weights_and_loss_whole() -> None:
    plain = Plain()
    settings = recipe(precision="bfloat16")
    stepper = Stepper(plain, settings, Ranks(), optimiser(plain, settings))
    logit, loss = stepper.forward(stepper.plain, whole_batch(4))
    assert logit.dtype == loss.dtype == torch.float32
    hidden: list[torch.dtype] = []
    plain.body[0].register_forward_hook(lambda module, given, out: hidden.append(out.dtype))
    stepper([whole_batch(4)])
    assert hidden == [torch.bfloat16] and isinstance(plain.body, nn.Sequential)
    assert all(p.dtype == torch.float32 for p in plain.parameters())
