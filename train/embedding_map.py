"""Embeddings of a labelled set in two dimensions, before and after training (arXiv 2003.08645, section 12 of its
specification): what training did to them, in one picture.

`python -m train.embedding_map RECIPE [--data DIR] [--run DIR] [--out DIR] [key=value ...]` takes the recipe's data and
network, untrained and with a run's best weights, and writes embedding-map.json and embedding-map.html.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from detectors.base import Detector
from train.recipe import EpochDataset, RecipeError, create_detector, data_module, data_settings, load_recipe

Method = Literal["tsne", "pca"]
COUNT = 512
"""Samples of the published figure."""
NAMES = ("real", "fake")
COLOURS = ("#2b6cb0", "#c53030")
PERPLEXITY = 30.0
FEWEST = 4


@dataclass(frozen=True)
class EmbeddingMap:
    """One panel: `points` [[x, y], ...] and `labels` (1 fake) of the samples; `medians` by class name, where the
    figure writes the class; `silhouette` of the classes in the plane, -1..1."""

    title: str
    method: Method
    points: list[list[float]]
    labels: list[int]
    medians: dict[str, list[float]]
    silhouette: float


def embedding_map(
    embeddings: NDArray[np.floating], labels: NDArray[Any], title: str, method: Method = "tsne", seed: int = 0
) -> EmbeddingMap:
    """Embeddings (N, D) with `labels` (N,), above 1/2 fake, in the plane; the same for the same seed.

    t-SNE with scikit-learn's defaults (perplexity 30, less where there are few points), or the first two principal
    components. Raises ValueError for fewer than 4 samples, one class only, or values that are not finite.
    """
    rows, fake = np.asarray(embeddings, np.float64), (np.asarray(labels) > 0.5).astype(np.int64)
    if rows.ndim != 2 or len(rows) != len(fake) or len(rows) < FEWEST or len(set(fake.tolist())) < 2:
        raise ValueError(f"a map needs {FEWEST} embeddings or more, of both classes, not {rows.shape}")
    if not np.isfinite(rows).all():
        raise ValueError("a map needs finite embeddings")
    from sklearn.metrics import silhouette_score

    plane = _plane(rows, method, seed)
    medians = {name: np.median(plane[fake == kind], axis=0).round(4).tolist() for kind, name in enumerate(NAMES)}
    return EmbeddingMap(
        title, method, plane.round(4).tolist(), fake.tolist(), medians, round(float(silhouette_score(plane, fake)), 4)
    )


def _plane(rows: NDArray[np.float64], method: Method, seed: int) -> NDArray[np.float64]:
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    if method == "pca":
        found: NDArray[np.float64] = PCA(2, random_state=seed).fit_transform(rows)
        return found
    perplexity = min(PERPLEXITY, (len(rows) - 1) / 3)
    # The exact method for few points: their neighbours' tree would be no faster, and its sums depend on threads.
    exact = "exact" if len(rows) <= COUNT else "barnes_hut"
    placed: NDArray[np.float64] = TSNE(2, perplexity=perplexity, method=exact, random_state=seed).fit_transform(rows)
    return placed.astype(np.float64)


def collect(detector: Detector, data: EpochDataset, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Embeddings (N, D) of the first samples of a dataset and their labels, N at most `count`; in evaluation mode.

    Raises RecipeError where the detector gives no embedding, or the dataset is empty.
    """
    vectors, labels, found = [], [], 0
    detector.eval()
    with torch.inference_mode():
        for index in range(len(data)):
            item = data[index]
            embedding = detector(detector.prepare(item["inputs"])).embedding
            if embedding is None:
                raise RecipeError(f"{detector.name} gives no embedding, so there is nothing to map")
            vectors.append(embedding.float().cpu().numpy())
            labels.append(np.asarray(item["label"], np.float32))
            found += len(labels[-1])
            if found >= count:
                break
    if not vectors:
        raise RecipeError("the recipe's data is empty: there is nothing to map")
    return np.concatenate(vectors)[:count], np.concatenate(labels)[:count]


def html(maps: Sequence[EmbeddingMap]) -> str:
    """A page of its own with one panel for each map; needs no network."""
    import plotly.graph_objects as go
    from plotly.subplots import make_subplots

    titles = [f"{one.title} (silhouette {one.silhouette:.2f})" for one in maps]
    figure = make_subplots(1, len(maps), subplot_titles=titles)
    for column, one in enumerate(maps, 1):
        points, labels = np.array(one.points), np.array(one.labels)
        for kind, name in enumerate(NAMES):
            x, y = points[labels == kind].T.tolist()
            marker = {"color": COLOURS[kind], "size": 6, "opacity": 0.7}
            figure.add_trace(
                go.Scatter(x=x, y=y, mode="markers", name=name, marker=marker, showlegend=column == 1), 1, column
            )
            figure.add_annotation(
                x=one.medians[name][0],
                y=one.medians[name][1],
                text=f"<b>{name}</b>",
                showarrow=False,
                row=1,
                col=column,
            )
    figure.update_layout(template="plotly_white", height=520)
    page: str = figure.to_html(include_plotlyjs=True, full_html=True, div_id="embedding-map")
    return page


def write(maps: Sequence[EmbeddingMap], folder: Path) -> tuple[Path, Path]:
    """embedding-map.json and embedding-map.html in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    points, page = folder / "embedding-map.json", folder / "embedding-map.html"
    points.write_text(json.dumps([asdict(one) for one in maps]) + "\n")
    page.write_text(html(maps), encoding="utf-8")
    return points, page


def before_and_after(
    recipe: str | Path,
    run: Path,
    *,
    data: Path | None = None,
    overrides: Sequence[str] = (),
    count: int = COUNT,
    method: Method = "tsne",
    validation: bool = False,
) -> list[EmbeddingMap]:
    """The maps of a recipe's first samples, of its training set as published or its validation set, under the
    untrained network and under the best weights in the run folder. Raises RecipeError."""
    resolved = load_recipe(recipe, overrides)
    weights = run / "best.pt"
    if not weights.is_file():
        raise RecipeError(f"{run} is not a run folder with a finished epoch: it has no best.pt")
    settings = data_settings(resolved)
    torch.manual_seed(resolved.seed)
    detector = create_detector(resolved)
    splits = data_module(resolved.data.kind).build(settings, resolved, detector, data)
    chosen = splits.validation if validation else splits.train
    maps = []
    for title in ("before training", "after training"):
        if title.startswith("after"):
            try:
                detector.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
            except RuntimeError as error:
                raise RecipeError(f"{weights} is not of this recipe's network: {str(error).splitlines()[0]}") from None
        vectors, labels = collect(detector, chosen, count)
        try:
            maps.append(embedding_map(vectors, labels, title, method, resolved.seed))
        except ValueError as error:
            raise RecipeError(f"recipe {resolved.name}: {error}") from None
    return maps


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit 0 written, 2 usage."""
    parser = argparse.ArgumentParser(
        prog="python -m train.embedding_map", description="Embeddings before and after training, in the plane."
    )
    parser.add_argument("recipe", help="a .yaml file, or the name of one in train/recipes")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="for example config.size=96")
    parser.add_argument("--data", type=Path, help="the folder that the recipe's data is made from")
    parser.add_argument("--run", type=Path, help="a run folder of `python -m train` (default .local/runs/RECIPE)")
    parser.add_argument("--out", type=Path, help="where the two files go (default: the run folder)")
    parser.add_argument("--count", type=int, default=COUNT, help=f"samples at most (default {COUNT})")
    parser.add_argument("--method", choices=("tsne", "pca"), default="tsne")
    parser.add_argument("--validation", action="store_true", help="samples that validated, not those trained on")
    given = parser.parse_intermixed_args(arguments)
    try:
        run = given.run or Path(".local/runs") / load_recipe(given.recipe, given.overrides).name
        maps = before_and_after(
            given.recipe,
            run,
            data=given.data,
            overrides=given.overrides,
            count=given.count,
            method=given.method,
            validation=given.validation,
        )
        points, page = write(maps, given.out or run)
    except (RecipeError, OSError) as error:
        print(f"python -m train.embedding_map: {error}", file=sys.stderr)
        return 2
    shown = ", ".join(f"{one.title} {one.silhouette:.3f}" for one in maps)
    print(f"{len(maps[0].labels)} samples; silhouette of the classes {shown}; {points} and {page}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
