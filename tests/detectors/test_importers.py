"""Published checkpoints: converted with their origin, and refused by name where they are not what they say."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from gend_files import DEPTH, HEADS, WIDTH, Clip, written

from detectors import store
from detectors.checkpoints import CheckpointError, read_keras, read_torch
from detectors.importers import import_weights
from detectors.methods.gend.encoders import ENCODERS
from detectors.methods.lrnet import TorchStream
from detectors.predict import predict


@pytest.fixture(autouse=True)
def user_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNMASK_WEIGHTS", str(tmp_path / "user"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")
    return tmp_path / "user"


def published_stream(seed: int) -> dict[str, torch.Tensor]:
    """A stream in the authors' names, with random values."""
    torch.manual_seed(seed)
    renamed = {"initial_state": "hidden_state", "residual.": "dense.1.fn.net.", "output.": "dense.3."}
    state = {}
    for key, value in TorchStream().state_dict().items():
        for ours, theirs in renamed.items():
            if key.startswith(ours):
                key = theirs + key.removeprefix(ours)
                break
        state[key] = value
    return state


def published_lrnet(folder: Path) -> Path:
    folder.mkdir()
    for number in (1, 2):
        torch.save(published_stream(number), folder / f"g{number}.pth")
    return folder


def test_the_card_tells_what_found_its_place_and_what_did_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = {"embed_dim": WIDTH, "depth": DEPTH, "num_heads": HEADS}
    known = ENCODERS["clip_b32"]
    monkeypatch.setitem(ENCODERS, "clip_b32", replace(known, width=WIDTH, options={**known.options, **narrow}))
    clip = Clip()
    kept = [v for k, v in clip.state.items() if "visual_projection" not in k and "position_ids" not in k]
    card = import_weights("gend", [written(clip.state, tmp_path)])
    numbers = sum(v.numel() for v in kept)
    # Queries, keys and values are three tensors there and one here: weights and biases of each block.
    assert f"{len(kept) - 4 * DEPTH} tensors, {numbers:,} numbers, make the whole network; left out" in card.data
    assert "feature_extractor.visual_projection.weight" in card.data and "position_ids" in card.data
    whole = import_weights("lrnet", [published_lrnet(tmp_path / "published")])
    assert whole.data.endswith("nothing in the file was left out")


def test_a_folder_with_both_streams_becomes_one_weight_file(tmp_path: Path) -> None:
    card = import_weights("lrnet", [published_lrnet(tmp_path / "published")], licence="MIT")
    loaded = store.load("lrnet", "paper")
    assert loaded.card == card
    assert (card.detector, card.profile, card.calibration, card.licence) == ("lrnet", "paper", None, "MIT")
    assert card.config["extractor"] == "unknown/FAN" and "out of its domain" in card.limits
    assert card.command.count("sha256") == 2
    state = loaded.detector.state_dict()
    for number in (1, 2):
        theirs = published_stream(number)
        assert torch.equal(state[f"g{number}.initial_state"], theirs["hidden_state"])
        assert torch.equal(state[f"g{number}.residual.3.weight"], theirs["dense.1.fn.net.3.weight"])
        assert torch.equal(state[f"g{number}.output.bias"], theirs["dense.3.bias"])


def test_two_files_and_a_name_of_ones_own(tmp_path: Path) -> None:
    folder = published_lrnet(tmp_path / "published")
    card = import_weights("lrnet", [folder / "g2.pth", folder / "g1.pth"], name="mine", store=tmp_path / "elsewhere")
    assert card.name == "mine"
    assert store.load("lrnet", "paper", tmp_path / "elsewhere" / "mine.safetensors").card == card
    assert torch.equal(
        store.load("lrnet", "paper", tmp_path / "elsewhere").detector.state_dict()["g1.initial_state"],
        published_stream(1)["hidden_state"],
    )


def test_a_state_dict_in_a_wrapper_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "g1.tar"
    torch.save({"state_dict": {f"module.{k}": v for k, v in published_stream(1).items()}, "epoch": 3}, path)
    assert read_torch(path).keys() == published_stream(1).keys()


class Touches:
    """Would write a file when a pickle of it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch '{self.path}'",)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_runs_code_is_refused_and_does_not_run(tmp_path: Path, zipped: bool) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / "g1.pth"
    torch.save({"weight": Touches(marker)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(
        CheckpointError, match=r"g1\.pth is refused: .* a pickle of posix\.system, which could run code"
    ):
        read_torch(path)
    assert not marker.exists()


def test_a_whole_pickled_model_is_refused_with_the_way_out(tmp_path: Path) -> None:
    path = tmp_path / "g1.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match=r"torch\.nn\.modules\.linear\.Linear.*state_dict\(\)") as caught:
        read_torch(path)
    assert "weights_only" not in str(caught.value)


def cut_in_half(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize(
    "write",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_text("hello"),
        lambda path: path.mkdir(),
        lambda path: (torch.save(published_stream(1), path), cut_in_half(path)),
        lambda path: (torch.save(published_stream(1), path, _use_new_zipfile_serialization=False), cut_in_half(path)),
        lambda path: torch.save([1, 2], path),
        lambda path: torch.save({}, path),
        lambda path: torch.save({"weight": torch.ones(1), "epoch": 3}, path),
    ],
    ids=["empty", "text", "folder", "cut", "cut, old format", "list", "no entries", "mixed"],
)
def test_what_is_no_state_dict_is_named(tmp_path: Path, write: Callable[[Path], Any]) -> None:
    path = tmp_path / "g1.pth"
    write(path)
    with pytest.raises(CheckpointError, match=r"g1\.pth") as caught:
        read_torch(path)
    assert "\n" not in str(caught.value)


def test_missing_and_unexpected_keys_and_shapes_are_listed(tmp_path: Path) -> None:
    folder = published_lrnet(tmp_path / "published")
    state = published_stream(1)
    del state["hidden_state"]
    state["head.weight"] = torch.ones(1)
    state["dense.3.bias"] = torch.zeros(3)
    torch.save(state, folder / "g1.pth")
    with pytest.raises(CheckpointError, match=r"g1\.pth does not fit") as caught:
        import_weights("lrnet", [folder])
    assert "missing: initial_state" in str(caught.value)
    assert "unexpected: head.weight" in str(caught.value)
    assert "output.bias is (3,) and should be (2,)" in str(caught.value)
    assert store.available("paper") == {}


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("lrnet", ["gone"], "there is no file"),
        ("lrnet", ["empty"], "found: none"),
        ("lrnet", ["notes.txt"], r"ending in .*\.pth.*found: notes\.txt"),
        ("lrnet", ["published/g1.pth"], "needs one file named g2 and has 0"),
        ("lrnet", ["published/g1.pth", "g2.h5"], "both PyTorch or both Keras"),
        ("mesonet", ["published"], "imported from one file, not from 2"),
        ("mesonet", ["g2.h5"], r"g2\.h5 cannot be read as Keras weights"),
    ],
)
def test_files_that_do_not_make_a_detector_are_explained(
    tmp_path: Path, method: str, given: list[str], message: str
) -> None:
    published_lrnet(tmp_path / "published")
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "g2.h5").write_text("hello")
    with pytest.raises(CheckpointError, match=message):
        import_weights(method, [tmp_path / name for name in given])


def keras_file(path: Path, layers: dict[str, list[tuple[int, ...]]]) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in layers]
        for name, shapes in layers.items():
            group = file.create_group(name)
            group.attrs["weight_names"] = [f"{name}/{i}".encode() for i in range(len(shapes))]
            for i, shape in enumerate(shapes):
                group[f"{name}/{i}"] = np.zeros(shape, np.float32)


def test_a_keras_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.h5"
    keras_file(path, {"conv2d": [(3, 3, 3, 8), (8,)], "flatten": [], "dense_1": [(8, 1), (1,)]})
    assert [(layer.kind, layer.number) for layer in read_keras(path)] == [("conv2d", 0), ("dense", 1)]
    with pytest.raises(CheckpointError, match="has 1 convolutions, 0 batch norms and 1 dense"):
        import_weights("mesonet", [path])


def test_a_keras_file_with_wrong_shapes_is_refused(tmp_path: Path) -> None:
    layers: dict[str, list[tuple[int, ...]]] = {f"conv2d_{i}": [(3, 3, 3, 8), (8,)] for i in range(4)}
    layers |= {f"batch_normalization_{i}": [(8,)] * 4 for i in range(4)}
    layers |= {"dense_1": [(1024, 16), (16,)], "dense_2": [(16, 1), (1,)]}
    keras_file(tmp_path / "meso.h5", layers)
    with pytest.raises(CheckpointError, match=r"meso\.h5 does not fit; wrong shape: stages\.1\.0\.0\.weight"):
        import_weights("mesonet", [tmp_path / "meso.h5"])


def test_an_hdf5_file_without_layers_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file["x"] = 1
    with pytest.raises(CheckpointError, match=r"data\.h5 cannot be read as Keras weights"):
        import_weights("mesonet", [tmp_path / "data.h5"])


@pytest.mark.parametrize("weights", ["Meso4_DF", "MesoInception_F2F"])
def test_imported_mesonet_scores_as_published(shared: Path, weights: str) -> None:
    folder = shared / "golden" / "mesonet"
    card = import_weights("mesonet", [folder / "weights" / f"{weights}.h5"], licence="Apache-2.0")
    loaded = store.load("mesonet", "paper")
    assert loaded.label == f"mesonet-{weights}@{card.sha256[:12]}"
    with np.load(folder / "inputs_256_uint8.npz") as pixels:
        images = np.stack([pixels["df__df01254__nearest"], pixels["real__real00772__nearest"]])
    real = {"Meso4_DF": [0.0486937481, 0.997701563], "MesoInception_F2F": [0.999997415, 0.990830346]}[weights]
    assert np.allclose(1 - loaded.score(predict(loaded, images).logits), real, atol=1e-5)


@pytest.mark.parametrize(("folder", "arch"), [("demo/model_weights", "torch"), ("training/weights/tf", "keras")])
def test_published_lrnet_folders_import(shared: Path, folder: str, arch: str) -> None:
    import_weights("lrnet", [shared / "golden" / "lrnet" / folder])
    loaded = store.load("lrnet", "paper")
    assert loaded.detector.config.model_dump()["arch"] == arch
    store.verify(store.find("lrnet", "paper"))
