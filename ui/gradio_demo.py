"""The Gradio demo: image, video, two side by side, and a fake made on the spot; the dashboard's API, words and plots.

`python -m ui.gradio_demo --api URL --port N [--hosted | --share]`; `unmask ui` and `unmask demo` start it so.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr

from detectors.result import AnalysisResult, FaceResult
from ui import gradio_texts as texts
from ui.axes import scores_axis
from ui.cards import STYLE, crops, error_card, facts, notices, progress_card, verdict_card
from ui.client import DEFAULT_API, ApiError, Client
from ui.embedding_plot import embedding_figure, neighbour_words, placed_faces
from ui.errors import UsageError
from ui.gradio_limits import CACHE_S, HOSTED, OWN, PASSWORD, Desk, Limits, ask_password, knows
from ui.gradio_pairs import compare_tab, fake_tab, heading, section
from ui.overlay import overlay_jpeg
from ui.samples import samples
from ui.timeline import scores_over_time
from ui.words import clock, deciding_face, printable, probability

CSS = f"""{STYLE}
.gradio-container {{ width: 100%; max-width: 1120px !important; margin: 0 auto !important; }}
gradio-app {{ display: block; overflow-x: clip; }}  /* Gradio measures its tabs beyond a phone's edge */
.dark [role=tab][aria-selected=true] {{ color: #a5b4fc !important; }}
.html-container {{ padding: 0 !important; }}
.js-plotly-plot .main-svg > g:not(.hoverlayer) text {{ fill: var(--body-text-color-subdued) !important; }}
.um-section {{ margin: 14px 0 2px; font-size: 1.12rem; font-weight: 640; }}
.um-looks {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(min(420px, 100%), 1fr)); gap: 18px 26px; }}
.um-hint {{ margin: 0; font-size: 0.92rem; opacity: 0.72; }}
.um-looks h4 {{ margin: 12px 0 8px; font-size: 1rem; font-weight: 620; }}
.um-looks .um-crops {{ grid-template-columns: repeat(auto-fill, minmax(min(190px, 46%), 1fr)); }}
.um-made .um-crops {{ grid-template-columns: 1fr 1fr; gap: 22px; margin-top: 8px; }}
.um-head h1 {{ margin: 18px 0 4px; font-size: 2rem; letter-spacing: -0.02em; }}
.um-head p {{ margin: 0 0 10px; max-width: 66ch; opacity: 0.7; font-size: 1.02rem; line-height: 1.5; }}
"""
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
VIDEOS = (".mp4",)
Outputs = tuple[str, Any, Any, Any, Any, Any, Any, Any, Any, Any, Any]


def analyse(desk: Desk, media: str | None) -> Iterator[Outputs]:
    """Progress, then the answer: verdict, and what is behind it, which is hidden until then."""
    hidden: tuple[Any, ...] = (gr.update(visible=False), *([gr.skip()] * 9))
    if media is None:
        yield error_card(texts.NOTHING, *texts.NO_FILE), *hidden
        return
    path = Path(media)
    name = printable(path.name)
    try:
        yield progress_card(name, "queued", 0.0), *hidden
        with desk.analysis(path, name) as analysis:
            for progress in desk.client.watch(analysis):
                yield progress_card(name, progress.stage, progress.share), *hidden
            with tempfile.TemporaryDirectory(prefix="unmask-") as folder:  # Gradio copies what it offers for download
                yield _answer(desk.client, analysis, desk.client.result(analysis, progress), Path(folder))
    except ApiError as error:
        yield error_card(name, error.reason, error.hint), *hidden


def _answer(client: Client, analysis: str, result: AnalysisResult, folder: Path) -> Outputs:
    face = deciding_face(result)
    scores, timeline = _figures(result, face) if face else ("", "")
    text = result.model_dump_json(indent=1)
    file = folder / f"{Path(result.media.name).stem or 'result'}.unmask.json"
    file.write_text(text, encoding="utf-8")
    pictures = _looks(client, analysis, result)
    places = placed_faces(face) if face else {}
    loudest = max(places, key=lambda name: face.detectors[name].score or 0.0) if face and places else None
    place = embedding_figure(*places[loudest]) if loudest else None
    said = f"{loudest}: {neighbour_words(places[loudest][1])}" if loudest else ""
    return (
        verdict_card(result) + notices(result),
        gr.update(visible=True),
        gr.update(value=scores, visible=bool(scores)),
        gr.update(visible=bool(timeline)),
        gr.update(value=timeline),
        gr.update(value=pictures, visible=bool(pictures)),
        gr.update(value=place, visible=place is not None),
        gr.update(value=f'<p class="um-small">{escape(said)}</p>', visible=bool(said)),
        facts(result),
        text,
        str(file),
    )


def _figures(result: AnalysisResult, face: FaceResult) -> tuple[str, str]:
    """Who says what of the face, and over time where there is any."""
    said = "; ".join(f"{name} {probability(one.score)}" for name, one in sorted(face.detectors.items()))
    scores = scores_axis(result, face, texts.SCORES_ALT.format(track=face.track, scores=said))
    return scores, scores_over_time(result, face, texts.TIMELINE_ALT.format(track=face.track))


def _looks(client: Client, analysis: str, result: AnalysisResult) -> str:
    """Each detector's heatmaps over the crops, under its name; the plain faces where no detector draws any."""
    parts = []
    for face in sorted(result.faces, key=lambda one: -(one.fused or -1.0)):
        who = f"{texts.PERSON.format(track=face.track)}: " if len(result.faces) > 1 else ""
        for name, score in sorted(face.detectors.items()):
            pictures = []
            for heatmap in sorted(score.heatmaps, key=lambda one: one.time):
                crop, drawn = client.artifact(analysis, heatmap.crop), client.artifact(analysis, heatmap.map)
                when = f"{clock(heatmap.time)} · " if result.media.kind == "video" else ""
                caption = f"{when}{texts.SCORE.format(score=probability(heatmap.score))}"
                pictures.append((overlay_jpeg(crop, drawn), caption))
            if pictures:
                title = f"{who}{texts.WHERE_ONE.format(name=name)}"
                parts.append(section(title, crops(pictures, texts.HEATMAP_ALT.format(name=name))))
    if not parts:
        faces = [(face.thumbnail, face.track) for face in result.faces if face.thumbnail]
        shown = [(client.artifact(analysis, name), texts.PERSON.format(track=track)) for name, track in faces]
        parts = [crops(shown, texts.FACE_ALT)] if shown else []
    return f'<div class="um-looks">{"".join(parts)}</div>' if parts else ""


def build(api: str, limits: Limits = OWN) -> gr.Blocks:
    """The page; nothing is asked of the API before somebody gives a file."""
    desk = Desk(Client(api), limits)
    cache = None if limits.keep else (CACHE_S, CACHE_S)
    with gr.Blocks(title="unmask", analytics_enabled=False, fill_width=True, delete_cache=cache) as page:
        head = f"<h1>{texts.TITLE}</h1><p>{texts.LEAD}{_terms(limits)}</p>"
        gr.HTML(f'<div class="um-head">{head}</div>', padding=False)
        with gr.Tab(texts.IMAGE):
            _tab(
                desk, gr.Image(label=texts.IMAGE, type="filepath", sources=["upload", "clipboard"], height=300), IMAGES
            )
        with gr.Tab(texts.VIDEO):
            _tab(desk, gr.Video(label=texts.VIDEO, sources=["upload"], height=300), VIDEOS)
        with gr.Tab(texts.COMPARE):
            compare_tab(desk, _samples(IMAGES))
        with gr.Tab(texts.FAKE):
            fake_tab(desk, _samples(IMAGES))

        def analyse(media: gr.FileData) -> dict:  # Gradio reads these types
            return answer(desk, Path(media["path"]))

        gr.api(analyse, api_name="analyse")
    return page.queue(max_size=limits.queue, default_concurrency_limit=limits.at_once)


def _terms(limits: Limits) -> str:
    if limits == OWN:
        return ""
    terms = texts.TERMS_LENGTH if limits.max_seconds else texts.TERMS
    kept = "" if limits.keep else texts.TERMS_DELETED
    return terms.format(megabytes=limits.max_mb, seconds=limits.max_seconds) + kept


def answer(desk: Desk, path: Path) -> dict[str, Any]:
    """For programs (gradio_client): the result of an image or a video, as the API gives it."""
    try:
        with desk.analysis(path, printable(path.name)) as analysis:
            for progress in desk.client.watch(analysis):
                ended = progress
            return desk.client.result(analysis, ended).model_dump(mode="json")
    except ApiError as error:
        raise gr.Error(f"{error.reason}; {error.hint}" if error.hint else error.reason) from None


def _samples(suffixes: tuple[str, ...]) -> list[tuple[str, str]]:
    """Paths and titles. The titles are shown: thumbnails of a face and its fake look alike, and say nothing aloud."""
    return [(str(sample.path), sample.title) for sample in samples() if sample.path.suffix.lower() in suffixes]


def _tab(desk: Desk, media: Any, suffixes: tuple[str, ...]) -> None:
    # The components would decode what comes in, and an image would lose the traces that are looked for.
    media.preprocess = lambda payload: None if payload is None else payload.path
    if found := _samples(suffixes):
        labels = [title for _, title in found]
        gr.Examples(
            [[path] for path, _ in found], media, label=texts.SAMPLES, example_labels=labels, cache_examples=False
        )
    go = gr.Button(texts.ANALYSE, variant="primary", interactive=False)
    verdict = gr.HTML(padding=False)
    with gr.Column(visible=False) as behind:
        with gr.Row():
            with gr.Column(min_width=320):
                heading(texts.WHO, texts.SCALE)
                scores = gr.HTML(padding=False)
            with gr.Column(min_width=320) as moving:
                heading(texts.TIME)
                timeline = gr.HTML(padding=False)
        heading(texts.WHERE, texts.BRIGHTER)
        looks = gr.HTML(padding=False, min_height=0)
        heading(texts.AMONG)
        place = gr.Plot(show_label=False, container=False)
        said = gr.HTML(padding=False)
        heading(texts.MEDIA)
        details = gr.HTML(padding=False)
        with gr.Accordion(texts.JSON, open=False):
            document = gr.Code(language="json", show_label=False, max_lines=30)
            download = gr.File(label=texts.DOWNLOAD)
    outputs = [verdict, behind, scores, moving, timeline, looks, place, said, details, document, download]
    media.change(
        lambda given: gr.update(interactive=given is not None), media, go, show_progress="hidden", api_name=False
    )
    go.click(partial(analyse, desk), media, outputs, show_progress="minimal", show_progress_on=verdict, api_name=False)


def main() -> None:
    """Serve the demo until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m ui.gradio_demo")
    parser.add_argument("--api", default=DEFAULT_API)
    parser.add_argument("--port", type=int, default=7860)
    shared = f"a public address through Gradio's tunnel, with a password ({PASSWORD}) and the hosted limits"
    parser.add_argument("--share", action="store_true", help=shared)
    hosted = f"for strangers: {HOSTED.max_mb} MB, {HOSTED.max_seconds:g} s, {HOSTED.queue} waiting, no history"
    parser.add_argument("--hosted", action="store_true", help=hosted)
    parser.add_argument("--max-mb", type=int, help="largest file")
    parser.add_argument("--max-seconds", type=float, help="longest video")
    parser.add_argument("--queue", type=int, help="visitors that may wait")
    parser.add_argument("--at-once", type=int, help="analyses at once")
    parser.add_argument("--no-history", action="store_true", help="delete each analysis after its answer")
    given = parser.parse_args()
    try:
        password = ask_password() if given.share else os.environ.get(PASSWORD, "")
    except UsageError as error:
        parser.error(str(error))
    limits = _limits(given)
    page = build(given.api, limits)
    # A font that Gradio ships: others would come from a font service, which then knows who uses the page.
    font = [gr.themes.LocalFont("Source Sans Pro", (400, 700)), "ui-sans-serif", "system-ui", "sans-serif"]
    theme = gr.themes.Soft(primary_hue="indigo", secondary_hue="indigo", neutral_hue="zinc", font=font).set(
        # A shade darker than the theme's, whose labels are too pale to read for some (WCAG 1.4.3).
        block_label_text_color="*primary_700", block_title_text_color="*primary_700", color_accent="*primary_600",
        body_text_color_subdued="*neutral_500", button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_600", button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_700",
    )  # fmt: skip
    auth = (lambda _, word: knows(password, word)) if password else None
    page.launch(
        server_name="127.0.0.1", server_port=given.port, share=given.share, quiet=True, prevent_thread_lock=True,
        max_file_size=f"{limits.max_mb}mb", footer_links=[], css=CSS, theme=theme, run_history=False,
        auth=auth, auth_message=texts.SIGN_IN if auth else None,
    )  # fmt: skip
    print(f"Gradio demo: http://127.0.0.1:{given.port}", flush=True)
    if given.share and page.share_url:
        print(f"Public, for those who know the password: {page.share_url}", flush=True)
    elif given.share:
        said = "no public address: Gradio's tunnel could not be made (it needs the network and a helper that Gradio"
        print(f"unmask: {said} downloads); the demo runs at its local address", file=sys.stderr, flush=True)
    page.block_thread()


def _limits(given: argparse.Namespace) -> Limits:
    """The hosted ones or none, and what the flags change in them."""
    asked = {key: getattr(given, key) for key in ("max_mb", "max_seconds", "queue", "at_once")}
    changes = {key: value for key, value in asked.items() if value is not None}
    changes |= {"keep": False} if given.no_history else {}
    return replace(HOSTED if given.hosted or given.share else OWN, **changes)


if __name__ == "__main__":
    main()
