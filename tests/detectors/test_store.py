"""Weights: found in order, checked, loaded as they were saved, and never made up."""

import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from detectors import store
from detectors.methods.lrnet import LRNet, LRNetConfig
from detectors.methods.mesonet import MesoConfig, MesoNet
from detectors.registry import create
from detectors.store import Calibration, NoWeights, WeightCard, WeightsError

ORIGIN: dict[str, Any] = {
    "licence": "Apache-2.0",
    "data": "random numbers of a test",
    "command": "pytest",
    "date": "2026-01-01",
}


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty user's store and nothing shipped, whatever this machine and this release hold."""
    monkeypatch.setenv("UNMASK_WEIGHTS", str(tmp_path / "user"))
    monkeypatch.setattr(store, "SHIPPED", tmp_path / "shipped")


def meso(seed: int = 0) -> MesoNet:
    torch.manual_seed(seed)
    return MesoNet(MesoConfig())


def keep(folder: Path, name: str = "one", seed: int = 0, **card: Any) -> WeightCard:
    return store.save(meso(seed), folder, **{**ORIGIN, "profile": "compact", "name": name, **card})


def test_what_was_saved_in_full_precision_is_what_is_loaded(tmp_path: Path) -> None:
    model = meso()
    store.save(model, tmp_path, half=False, profile="compact", name="one", **ORIGIN)
    loaded = store.load("mesonet", weights=tmp_path)
    assert not loaded.detector.training
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.detector.state_dict()[key], value), key


def test_half_precision_halves_the_matrices_and_loads_as_float32(tmp_path: Path) -> None:
    model = meso()
    model.stages[0][1].running_var.fill_(1e-9)  # type: ignore[index, union-attr]
    card = store.save(model, tmp_path, profile="compact", name="one", **ORIGIN)
    assert card.bytes == (tmp_path / card.file).stat().st_size < 80_000
    state = store.load("mesonet", weights=tmp_path).detector.state_dict()
    for key, value in model.state_dict().items():
        assert state[key].dtype == value.dtype
        assert torch.equal(state[key], value if value.ndim < 2 else value.half().float()), key


def test_the_config_travels_with_the_weights(tmp_path: Path) -> None:
    config = LRNetConfig(extractor="fan68", box_every=2, fps=30)
    store.save(LRNet(config), tmp_path, profile="paper", name="one", **ORIGIN)
    loaded = store.load("lrnet", "paper", tmp_path).detector
    assert loaded.config == config
    assert (loaded.input.extractor, loaded.input.box_every, loaded.input.fps) == ("fan68", 2, 30)  # type: ignore[union-attr]


def test_no_weights_is_an_error_with_the_way_out_and_never_a_random_network() -> None:
    with pytest.raises(NoWeights, match=r"no trained weights for mesonet \(compact\).*unmask weights import mesonet"):
        store.load("mesonet")
    assert store.available() == {}
    assert store.load_available() == {}


def test_an_unknown_detector_is_named() -> None:
    with pytest.raises(ValueError, match="did you mean 'mesonet'"):
        store.load("mesonett")


def test_the_users_store_comes_before_what_is_shipped_and_a_path_before_both(tmp_path: Path) -> None:
    keep(store.SHIPPED, "shipped")
    assert store.load("mesonet").card.name == "shipped"
    keep(store.user_store(), "users")
    assert store.load("mesonet").card.name == "users"
    keep(tmp_path / "path", "explicit")
    assert store.load("mesonet", weights=tmp_path / "path").card.name == "explicit"
    assert store.load("mesonet", weights=tmp_path / "path" / "explicit.safetensors").card.name == "explicit"
    assert [found.card.name for found in store.located()] == ["users", "shipped"]


def test_the_newest_of_two_in_one_store_is_used_and_one_name_is_replaced(tmp_path: Path) -> None:
    keep(store.user_store(), "first")
    keep(store.user_store(), "second", seed=1)
    assert store.load("mesonet").card.name == "second"
    again = keep(store.user_store(), "first", seed=2)
    assert store.load("mesonet").card == again
    assert sorted(c.name for c in store.read_manifest(store.user_store())) == ["first", "second"]


def test_profiles_do_not_stand_in_for_each_other() -> None:
    keep(store.user_store(), "big", profile="paper")
    with pytest.raises(NoWeights, match=r"there are big \(paper\)"):
        store.load("mesonet", "compact")
    assert store.available("paper").keys() == {"mesonet"}
    assert store.available("compact") == {}


def test_a_listed_file_that_is_gone_does_not_count() -> None:
    card = keep(store.user_store())
    (store.user_store() / card.file).unlink()
    with pytest.raises(NoWeights):
        store.load("mesonet")


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    card = keep(tmp_path)
    path = tmp_path / card.file
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"sha256 [0-9a-f]{{12}}, expected {card.sha256[:12]}"):
        store.load("mesonet", weights=tmp_path)
    with pytest.raises(WeightsError, match="not the file that its card describes"):
        store.verify(store.find("mesonet", weights=tmp_path))


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path) -> None:
    card = keep(tmp_path)
    wrong = card.model_copy(update={"config": {**card.config, "arch": "meso4"}})
    (tmp_path / "manifest.json").write_text(json.dumps([wrong.model_dump()]))
    with pytest.raises(WeightsError, match=r"one\.safetensors does not fit; missing: stages.*unexpected: stages"):
        store.load("mesonet", weights=tmp_path)


def test_a_file_that_is_no_safetensors_is_refused_although_its_digest_fits(tmp_path: Path) -> None:
    card = keep(tmp_path)
    content = b"not weights at all"
    (tmp_path / card.file).write_bytes(content)
    wrong = card.model_copy(update={"sha256": hashlib.sha256(content).hexdigest()})
    (tmp_path / "manifest.json").write_text(json.dumps([wrong.model_dump()]))
    with pytest.raises(WeightsError, match="the weights one cannot be loaded"):
        store.load("mesonet", weights=tmp_path)


def test_a_config_that_the_detector_does_not_know_is_refused(tmp_path: Path) -> None:
    card = keep(tmp_path)
    wrong = card.model_copy(update={"config": {"colour": "blue"}})
    (tmp_path / "manifest.json").write_text(json.dumps([wrong.model_dump()]))
    with pytest.raises(WeightsError, match=r"card one has a wrong config.*unknown key 'colour'"):
        store.load("mesonet", weights=tmp_path)


@pytest.mark.parametrize("text", ["{", "{}", "[1]", '[{"detector": "mesonet"}]', "\x00"])
def test_a_damaged_manifest_is_named(text: str) -> None:
    store.user_store().mkdir(parents=True)
    (store.user_store() / "manifest.json").write_text(text)
    with pytest.raises(WeightsError, match=r"the manifest .*manifest\.json"):
        store.load("mesonet")


@pytest.mark.parametrize("field", ["name", "file"])
@pytest.mark.parametrize("value", ["../../evil", "/etc/passwd", "a/b", ""])
def test_a_card_cannot_point_out_of_its_folder(tmp_path: Path, field: str, value: str) -> None:
    card = keep(tmp_path).model_dump()
    with pytest.raises(ValidationError):
        WeightCard.model_validate({**card, field: f"{value}.safetensors" if field == "file" else value})


@pytest.mark.parametrize(
    ("path", "message"),
    [("gone", "there are no weights at"), ("bare", "has no card"), ("x.pth", "unmask weights import mesonet")],
)
def test_an_explicit_path_that_does_not_serve_is_explained(tmp_path: Path, path: str, message: str) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "x.pth").write_bytes(b"")
    with pytest.raises(WeightsError, match=message):
        store.load("mesonet", weights=tmp_path / path)


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Path) -> None:
    model = meso()
    with torch.no_grad():
        model.hidden.weight[0, 0] = 1e6
    with pytest.raises(WeightsError, match=r"hidden\.weight is not finite in float16"):
        store.save(model, tmp_path, profile="compact", name="one", **ORIGIN)
    assert not tmp_path.joinpath("one.safetensors").exists()
    store.save(model, tmp_path, half=False, profile="compact", name="one", **ORIGIN)


def test_two_trainings_that_finish_at_once_are_both_listed(tmp_path: Path) -> None:
    names = [f"run-{i}" for i in range(8)]
    threads = [threading.Thread(target=keep, args=(tmp_path, name)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(card.name for card in store.read_manifest(tmp_path)) == names
    assert not list(tmp_path.glob(".part-*"))


def test_the_score_is_the_calibrated_probability(tmp_path: Path) -> None:
    keep(tmp_path, calibration={"a": 2.0, "b": -1.0, "fitted_on": "a test", "n": 4})
    loaded = store.load("mesonet", weights=tmp_path)
    logits = np.array([-3.0, 0.5, 1e6, -1e6])
    assert np.allclose(loaded.score(logits), [1 / (1 + np.exp(7)), 0.5, 1, 0])
    assert loaded.label == f"one@{loaded.card.sha256[:12]}"


def test_a_calibration_changes_the_card_and_not_the_weights() -> None:
    before = keep(store.SHIPPED)
    keep(store.SHIPPED, "other", profile="paper")
    changed = store.set_calibration("mesonet", "compact", Calibration(a=1.5, b=0.25, fitted_on="a test", n=10))
    loaded = store.load("mesonet")
    assert loaded.card == changed
    assert loaded.card.sha256 == before.sha256
    assert loaded.score(np.zeros(1))[0] == pytest.approx(1 / (1 + np.exp(-0.25)))
    assert store.load("mesonet", "paper").card.calibration is None


def test_an_export_loads_from_where_it_was_put(tmp_path: Path) -> None:
    card = keep(store.user_store())
    assert store.export("mesonet", "compact", tmp_path / "out") == card
    assert store.load("mesonet", weights=tmp_path / "out").card == card


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WeightsError, match="cannot be written"):
        keep(tmp_path / "file")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def hosted(url: str, folder: Path) -> WeightCard:
    """Weights on the server; the shipped manifest has their card and not their file."""
    card = keep(folder)
    listed = card.model_copy(update={"url": f"{url}/{card.file}"})
    store.SHIPPED.mkdir()
    (store.SHIPPED / "manifest.json").write_text(json.dumps([listed.model_dump()]))
    return listed


def test_weights_with_an_address_are_fetched_once_and_kept(server: tuple[str, Path]) -> None:
    card = hosted(*server)
    assert store.load("mesonet").card == card
    (server[1] / card.file).unlink()
    assert store.load("mesonet").card == card
    assert (store.user_store() / card.file).stat().st_size == card.bytes


def test_an_address_with_another_file_is_refused_and_nothing_kept(server: tuple[str, Path]) -> None:
    card = hosted(*server)
    (server[1] / card.file).write_bytes(b"x" * (card.bytes + 1000))
    with pytest.raises(WeightsError, match="gave another file than the card one describes"):
        store.load("mesonet")
    assert not (store.user_store() / card.file).exists()


@pytest.mark.parametrize("broken", ["missing", "nobody there"])
def test_a_download_that_fails_says_where_to_put_the_file(server: tuple[str, Path], broken: str) -> None:
    card = hosted(*server)
    (server[1] / card.file).unlink()
    if broken == "nobody there":
        gone = card.model_copy(update={"url": "http://127.0.0.1:9/one.safetensors"})
        (store.SHIPPED / "manifest.json").write_text(json.dumps([gone.model_dump()]))
    with pytest.raises(WeightsError, match=r"could not be downloaded from http.*put the file at .*one\.safetensors"):
        store.load("mesonet")


def test_only_web_addresses_are_fetched(tmp_path: Path) -> None:
    card = keep(tmp_path).model_dump()
    with pytest.raises(ValidationError):
        WeightCard.model_validate({**card, "url": "file:///etc/passwd"})


def test_every_shipped_weight_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    folder = Path(store.__file__).parent / "weights"
    for card in store.read_manifest(folder):
        store.verify(store.Located(card, folder))
    assert create("mesonet").config == MesoConfig()
