"""The bank of reference embeddings and its fixed map."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from detectors.gallery import NEIGHBOURS, Gallery, galleries, gallery_for, principal
from detectors.store import available


def bank(count: int = 12, width: int = 6, components: int = 4) -> tuple[Gallery, np.ndarray]:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(count, width)).astype(np.float32) * np.arange(1, width + 1, dtype=np.float32)
    mean, axes = principal(vectors, components)
    kinds = tuple("real" if i % 2 else "sbi" for i in range(count))
    return Gallery("mesonet", "0" * 12, kinds, (vectors - mean) @ axes.T, mean, axes), vectors


@given(st.integers(0, 11))
def test_a_reference_lands_on_itself(index: int) -> None:
    gallery, vectors = bank()
    placed = gallery.place(vectors[index].tolist())
    assert placed.neighbours[0].index == index and placed.neighbours[0].distance == pytest.approx(0, abs=1e-4)
    assert placed.neighbours[0].kind == gallery.kinds[index]
    assert (placed.x, placed.y) == pytest.approx(gallery.points[index, :2], abs=1e-4)
    distances = [one.distance for one in placed.neighbours]
    assert len(distances) == NEIGHBOURS and distances == sorted(distances)


def test_axes_are_orthonormal_and_never_mirrored() -> None:
    gallery, vectors = bank()
    assert np.allclose(gallery.axes @ gallery.axes.T, np.eye(4), atol=1e-5)
    again = principal(vectors[::-1], 4)[1]
    assert np.allclose(gallery.axes, again, atol=1e-4)
    spread = gallery.points.var(0)
    assert (np.diff(spread) <= 1e-5).all(), "the first two components are those that spread most"


def test_an_embedding_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="of 6 numbers, not 3"):
        bank()[0].place([1.0, 2.0, 3.0])


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    assert galleries(tmp_path / "none.safetensors") == {}
    (tmp_path / "bad.safetensors").write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"bad\.safetensors is no gallery"):
        galleries(tmp_path / "bad.safetensors")
    about = {"galleries": json.dumps({"mesonet": {"weights": "0", "kinds": []}})}
    save_file({"x": np.zeros(1)}, tmp_path / "half.safetensors", about)
    with pytest.raises(ValueError, match=r"half\.safetensors is no gallery"):
        galleries(tmp_path / "half.safetensors")


def test_every_shipped_gallery_belongs_to_the_shipped_weights() -> None:
    cards = available()
    shipped = galleries()
    assert shipped, "the repository ships a gallery"
    for name, gallery in shipped.items():
        card = cards[name]
        assert gallery_for(name, f"{card.name}@{card.sha256[:12]}") is gallery
        assert gallery_for(name, f"{card.name}@{'f' * 12}") is None, "other weights have no place on it"
        assert len(gallery.kinds) == len(gallery.points) >= 50
        assert "real" in gallery.kinds and len(set(gallery.kinds)) >= 5
