"""Two tabs of the Gradio demo that put two answers side by side: any two files, or a picture and a fake made of it."""

from __future__ import annotations

import io
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from detectors.result import AnalysisResult, FaceResult
from preprocessing.blending import BlendError, families, make, sample_rng
from preprocessing.blending.registry import generator
from preprocessing.blending.swap_video import load_face
from preprocessing.errors import MediaError
from preprocessing.media import open_media
from ui import gradio_texts as texts
from ui.axes import compared_axis
from ui.cards import crops, error_card, notices, progress_card, verdict_card
from ui.client import ApiError, Client
from ui.embedding_plot import embedding_figure, placed_faces
from ui.gradio_limits import Desk
from ui.gradio_texts import PAIR
from ui.overlay import overlay_jpeg
from ui.words import deciding_face, printable, probability

KINDS = [name for name in families() if not generator(name).needs_partner and name != "sbi_reference"]
"""Pseudo-fakes that one picture is enough for."""
Pair = tuple[Any, Any, Any, Any, Any, Any, Any]
"""The first answer's card, the second's, what is behind them, which is hidden until then: the figure of both, both's
heatmaps, the heading of the embedding map, and both on it."""
WIDEST = 640
"""Pixels of a made fake as it is shown; the whole of it goes to the detectors."""
Looks = dict[str, tuple[bytes, str]]
"""By detector: its most suspicious heatmap (JPEG) and the caption."""


def compare(desk: Desk, first: str | None, second: str | None) -> Iterator[Pair]:
    """Both files' answers, one after the other; then what each detector says of them, and where it looks."""
    hidden = (gr.update(visible=False), *[gr.skip()] * 4)
    if first is None or second is None:
        yield error_card(texts.NOTHING, *texts.NO_PAIR), "", *hidden
        return
    cards: list[str] = ["", ""]
    results: list[AnalysisResult] = []
    looks: list[Looks] = []
    for number, given in enumerate((first, second)):
        path = Path(given)
        name = printable(path.name)
        try:
            with desk.analysis(path, name) as analysis:
                for progress in desk.client.watch(analysis):
                    cards[number] = progress_card(name, progress.stage, progress.share)
                    yield cards[0], cards[1], *hidden
                results.append(desk.client.result(analysis, progress))
                looks.append(_looks(desk.client, analysis, results[-1], PAIR[number]))
                cards[number] = verdict_card(results[-1]) + notices(results[-1])
        except ApiError as error:
            cards[number] = error_card(name, error.reason, error.hint)
        yield cards[0], cards[1], *hidden
    faces = [deciding_face(result) for result in results]
    if len(results) == 2 and all(faces):
        title, place = _both_placed(*faces)
        said = "; ".join(f"{name} {probability(one.score)}" for name, one in zip(PAIR, results, strict=True))
        scores = compared_axis(results, PAIR, texts.PAIR_SCORES_ALT.format(scores=said))
        yield (
            cards[0], cards[1], gr.update(visible=True), scores, _side_by_side(*looks),
            heading_html(title), gr.update(value=place, visible=place is not None),
        )  # fmt: skip


def _looks(client: Client, analysis: str, result: AnalysisResult, which: str) -> Looks:
    face = deciding_face(result)
    found = {}
    for name, score in sorted(face.detectors.items() if face else ()):
        if score.heatmaps:
            worst = max(score.heatmaps, key=lambda one: one.score)
            drawn = overlay_jpeg(client.artifact(analysis, worst.crop), client.artifact(analysis, worst.map))
            found[name] = drawn, texts.SCORE_OF.format(which=which, score=probability(worst.score))
    return found


def _side_by_side(first: Looks, second: Looks) -> str:
    """A pair of pictures for each detector that draws any."""
    pairs = []
    for name in sorted({*first, *second}):
        pictures = [looks[name] for looks in (first, second) if name in looks]
        drawn = crops(pictures, texts.HEATMAP_ALT.format(name=name))
        pairs.append(section(texts.WHERE_ONE.format(name=name), drawn))
    head = heading_html(texts.WHERE, texts.BRIGHTER)
    return f'{head}<div class="um-looks">{"".join(pairs)}</div>' if pairs else ""


def _both_placed(first: FaceResult | None, second: FaceResult | None) -> tuple[str, Any]:
    """Both faces on the map of the detector that is most suspicious of the second, and its title; no title and None
    where none maps both."""
    if first is None or second is None:
        return "", None
    places = placed_faces(first), placed_faces(second)
    both = [name for name in places[0] if name in places[1]]
    if not both:
        return "", None
    name = max(both, key=lambda one: second.detectors[one].score or 0.0)
    figure = embedding_figure(*places[0][name])
    figure.layout.annotations = ()  # of the first one's neighbours alone
    figure.data = [trace for trace in figure.data if trace.mode != "lines"]
    star = figure.data[-1].marker.to_plotly_json() | {"size": 22}
    hollow = star | {"symbol": "star-open", "line": {"width": 3, "color": star["color"]}}
    look = {"mode": "markers+text", "textposition": "top center", "textfont": {"size": 14}}
    figure.data[-1].update(name=PAIR[0], hovertext=PAIR[0], text=[PAIR[0]], marker=hollow, **look)
    place = places[1][name][1]
    figure.add_scatter(x=[place.x], y=[place.y], name=PAIR[1], hovertext=PAIR[1], hoverinfo="text", text=[PAIR[1]],
                       marker=star, **look)  # fmt: skip
    return texts.AMONG_ONE.format(name=name), figure


def fake_and_ask(desk: Desk, given: str | None, kind: str, seed: float | None) -> Iterator[tuple[Any, ...]]:
    """A pseudo-fake of the largest face, and what is said of the picture and of the fake."""
    hidden = (gr.update(visible=False), *[gr.skip()] * 4)
    if given is None or seed is None:
        missing = texts.NO_PICTURE if given is None else texts.NO_SEED
        yield "", error_card(texts.NOTHING, *missing), "", *hidden
        return
    try:
        real, fake = fake_of(Path(given), kind, int(seed))
    except (MediaError, BlendError, ValueError) as error:
        yield "", error_card(printable(Path(given).name), str(error)), "", *hidden
        return
    told = texts.FAKE_OF.format(how=texts.KINDS.get(kind, ""), kind=kind)
    try:
        pictures = crops([(_shown(real), texts.AS_IT_IS), (_shown(fake), told)], texts.PAIR_ALT)
        shown: Any = f'<div class="um-made">{pictures}</div>'
        for cards in compare(desk, str(real), str(fake)):
            yield shown, *cards
            shown = gr.skip()
    finally:
        shutil.rmtree(real.parent, ignore_errors=True)  # Gradio has copies of what it shows


def fake_of(path: Path, kind: str, seed: int) -> tuple[Path, Path]:
    """The picture and a pseudo-fake of its face, both as PNG, so that nothing but the face tells them apart.

    Raises MediaError, BlendError.
    """
    found = load_face(path, frames=1)
    with open_media(path) as media:
        picture = next(iter(media)).image
    made = make(kind, found.clip.frames[0], found.clip.landmarks[0], sample_rng(seed, 0, 0))
    x, y = (int(value) for value in found.offsets[0])
    changed = np.array(picture)
    height, width = made.fake.shape[:2]
    changed[y : y + height, x : x + width] = made.fake
    folder = Path(tempfile.mkdtemp(prefix="unmask-"))
    files = folder / f"{path.stem or 'picture'}.png", folder / f"{path.stem or 'picture'} {kind}.png"
    for file, pixels in zip(files, (picture, changed), strict=True):
        Image.fromarray(pixels).save(file)
    return files


def _shown(path: Path) -> bytes:
    """The picture as a JPEG of WIDEST pixels at most."""
    out = io.BytesIO()
    with Image.open(path) as picture:
        picture.thumbnail((WIDEST, WIDEST))
        picture.convert("RGB").save(out, "JPEG", quality=92)
    return out.getvalue()


def compare_tab(desk: Desk, samples: list[tuple[str, str]]) -> None:
    """Two files, two answers."""
    with gr.Row():
        sides = [gr.File(label=side, type="filepath", height=170) for side in texts.SIDES]
    if len(samples) > 1:
        gr.Examples([[samples[0][0], samples[1][0]]], sides, label=texts.SAMPLES, cache_examples=False)
    go = gr.Button(texts.DO_COMPARE, variant="primary")
    _ask(go, partial(compare, desk), sides, answers := _answers(), answers[0])


def fake_tab(desk: Desk, samples: list[tuple[str, str]]) -> None:
    """A picture, a fake of it, and who notices."""
    picture = gr.Image(label=texts.PICTURE, type="filepath", sources=["upload", "clipboard"], height=300)
    picture.preprocess = lambda payload: None if payload is None else payload.path
    if samples:
        labels = [title for _, title in samples]
        files = [[path] for path, _ in samples]
        gr.Examples(files, picture, label=texts.SAMPLES, example_labels=labels, cache_examples=False)
    with gr.Row():
        kind = gr.Dropdown(
            [(f"{name}: {texts.KINDS.get(name, '')}", name) for name in KINDS], value=KINDS[0], label=texts.HOW
        )
        seed = gr.Number(1, label=texts.SEED, precision=0, minimum=0, maximum=10**6)
    go = gr.Button(texts.DO_FAKE, variant="primary")
    made = gr.HTML(padding=False, min_height=0)
    _ask(go, partial(fake_and_ask, desk), [picture, kind, seed], [made, *(answers := _answers())], answers[0])


def _answers() -> list[Any]:
    sides = []
    with gr.Row():
        for _ in PAIR:
            with gr.Column(min_width=320):
                sides.append(gr.HTML(padding=False, min_height=0))
    with gr.Column(visible=False) as behind:
        heading(texts.WHO, texts.SCALE_PAIR)
        scores = gr.HTML(padding=False)
        looks = gr.HTML(padding=False, min_height=0)
        among = gr.HTML(padding=False, min_height=0)
        place = gr.Plot(show_label=False, container=False)
    return [*sides, behind, scores, looks, among, place]


def heading_html(words: str, more: str = "") -> str:
    """A heading with what to know of what is below it; empty without words."""
    said = f'<p class="um-hint">{escape(more)}</p>' if more else ""
    return f'<h3 class="um-section">{escape(words)}</h3>{said}' if words else ""


def heading(words: str, more: str = "") -> None:
    """`heading_html` on the page."""
    gr.HTML(heading_html(words, more), padding=False)


def section(title: str, content: str) -> str:
    """HTML under a small heading."""
    return f"<section><h4>{escape(title)}</h4>{content}</section>"


def _ask(go: Any, work: Any, inputs: list[Any], outputs: list[Any], card: Any) -> None:
    """The place in the queue is shown on the first card."""
    go.click(work, inputs, outputs, show_progress="minimal", show_progress_on=card, api_name=False)
