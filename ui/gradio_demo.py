"""The Gradio demo: an image tab and a video tab over the same API, words and plots as the dashboard.

`python -m ui.gradio_demo --api URL --port N [--share]`; `unmask ui` and `unmask demo` start it so.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from PIL import Image

from detectors.result import AnalysisResult
from ui.cards import STYLE, error_card, facts, notices, progress_card, verdict_card
from ui.client import DEFAULT_API, ApiError, Client
from ui.overlay import overlay
from ui.plots import scores_figure, timeline_figure
from ui.samples import samples
from ui.words import clock, deciding_face, printable, probability

CSS = f"""{STYLE}
.gradio-container {{ max-width: 1120px !important; margin: 0 auto !important; }}
.html-container {{ padding: 0 !important; }}
.grid-wrap {{ min-height: 0 !important; height: auto !important; max-height: none !important; }}
.grid-container {{ grid-template-columns: repeat(auto-fill, minmax(140px, 1fr)) !important; }}
.gallery-container {{ min-width: 0; height: auto !important; min-height: 0 !important; }}
.um-section {{ margin: 14px 0 2px; font-size: 1.12rem; font-weight: 640; }}
.um-head h1 {{ margin: 18px 0 4px; font-size: 2rem; letter-spacing: -0.02em; }}
.um-head p {{ margin: 0 0 10px; max-width: 66ch; opacity: 0.7; font-size: 1.02rem; line-height: 1.5; }}
"""
LEAD = (
    "Published detectors look at every face of a photo or a video; you see what each of them says, where it looks, "
    "and how far the verdict can be trusted."
)
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
VIDEOS = (".mp4",)
Outputs = tuple[str, Any, Any, Any, Any, Any, Any, Any]


def analyse(client: Client, media: str | None) -> Iterator[Outputs]:
    """Progress, then the answer: verdict, and what is behind it, which is hidden until then."""
    hidden: tuple[Any, ...] = (gr.update(visible=False), *([gr.skip()] * 6))
    if media is None:
        yield error_card("Nothing yet", "no file was given", "choose one, or take a sample"), *hidden
        return
    path = Path(media)
    name = printable(path.name)
    try:
        yield progress_card(name, "queued", 0.0), *hidden
        analysis = client.submit(path, name)
        for progress in client.watch(analysis):
            yield progress_card(name, progress.stage, progress.share), *hidden
        yield _answer(client, analysis, client.result(analysis))
    except ApiError as error:
        yield error_card(name, error.reason, error.hint), *hidden


def _answer(client: Client, analysis: str, result: AnalysisResult) -> Outputs:
    face = deciding_face(result)
    scores = scores_figure(result, face) if face else None
    timeline = timeline_figure(result, face) if face else None
    text = result.model_dump_json(indent=1)
    file = Path(tempfile.mkdtemp(prefix="unmask-")) / f"{Path(result.media.name).stem or 'result'}.unmask.json"
    file.write_text(text, encoding="utf-8")
    pictures = _gallery(client, analysis, result)
    return (
        verdict_card(result) + notices(result),
        gr.update(visible=True),
        gr.update(value=scores, visible=scores is not None),
        gr.update(value=timeline, visible=timeline is not None),
        gr.update(value=pictures, visible=bool(pictures)),
        facts(result),
        text,
        str(file),
    )


def _gallery(client: Client, analysis: str, result: AnalysisResult) -> list[tuple[Image.Image, str]]:
    """Each detector's heatmaps over the crops; the plain faces where no detector draws any."""
    pictures = []
    several = len({name for face in result.faces for name, score in face.detectors.items() if score.heatmaps}) > 1
    for face in result.faces:
        for name, score in sorted(face.detectors.items()):
            for heatmap in score.heatmaps:
                drawn = overlay(client.artifact(analysis, heatmap.crop), client.artifact(analysis, heatmap.map))
                when = f" · {clock(heatmap.time)}" if result.media.kind == "video" else ""
                who = f"{name} " if several else ""
                pictures.append((Image.fromarray(drawn), f"{who}{probability(heatmap.score)}{when}"))
    if not pictures:
        for face in result.faces:
            if face.thumbnail:
                picture = Image.open(io.BytesIO(client.artifact(analysis, face.thumbnail)))
                pictures.append((picture, f"person {face.track}"))
    return pictures


def build(api: str) -> gr.Blocks:
    """The page; nothing is asked of the API before somebody gives a file."""
    client = Client(api)
    with gr.Blocks(title="unmask", analytics_enabled=False, fill_width=True) as page:
        gr.HTML(f'<div class="um-head"><h1>Is this face real?</h1><p>{LEAD}</p></div>', padding=False)
        with gr.Tab("Image"):
            _tab(client, gr.Image(label="Image", type="filepath", sources=["upload", "clipboard"], height=300), IMAGES)
        with gr.Tab("Video"):
            _tab(client, gr.Video(label="Video", sources=["upload"], height=300), VIDEOS)
    return page.queue(default_concurrency_limit=4)


def _tab(client: Client, media: Any, suffixes: tuple[str, ...]) -> None:
    # The components would decode what comes in, and an image would lose the traces that are looked for.
    media.preprocess = lambda payload: None if payload is None else payload.path
    found = [[str(sample.path)] for sample in samples() if sample.path.suffix.lower() in suffixes]
    if found:
        gr.Examples(found, media, label="Samples", cache_examples=False)
    go = gr.Button("Analyse", variant="primary", interactive=False)
    verdict = gr.HTML(padding=False)
    with gr.Column(visible=False) as behind:
        with gr.Row():
            with gr.Column(min_width=320):
                gr.HTML('<h3 class="um-section">Who says what</h3>', padding=False)
                scores = gr.Plot(show_label=False, container=False)
            with gr.Column(min_width=320):
                gr.HTML('<h3 class="um-section">Over time</h3>', padding=False)
                timeline = gr.Plot(show_label=False, container=False)
        gr.HTML('<h3 class="um-section">Where the detectors look</h3>', padding=False)
        gallery = gr.Gallery(
            show_label=False, container=False, columns=4, fit_columns=False, height="auto", object_fit="cover"
        )
        gr.HTML('<h3 class="um-section">The media</h3>', padding=False)
        details = gr.HTML(padding=False)
        with gr.Accordion("The result as JSON", open=False):
            document = gr.Code(language="json", show_label=False, max_lines=30)
            download = gr.File(label="Download")
    outputs = [verdict, behind, scores, timeline, gallery, details, document, download]
    media.change(
        lambda given: gr.update(interactive=given is not None), media, go, show_progress="hidden", api_name=False
    )
    go.click(partial(analyse, client), media, outputs, show_progress="hidden", api_name=False)


def main() -> None:
    """Serve the demo until it is stopped."""
    parser = argparse.ArgumentParser(prog="python -m ui.gradio_demo")
    parser.add_argument("--api", default=DEFAULT_API)
    parser.add_argument("--port", type=int, default=7860)
    parser.add_argument("--share", action="store_true", help="a public address through Gradio's tunnel")
    given = parser.parse_args()
    page = build(given.api)
    # A font that Gradio ships: others would come from a font service, which then knows who uses the page.
    font = [gr.themes.LocalFont("Source Sans Pro", (400, 700)), "ui-sans-serif", "system-ui", "sans-serif"]
    theme = gr.themes.Soft(primary_hue="indigo", secondary_hue="indigo", neutral_hue="zinc", font=font)
    page.launch(
        server_name="127.0.0.1", server_port=given.port, share=given.share, quiet=True, prevent_thread_lock=True,
        max_file_size="2gb", footer_links=[], css=CSS, theme=theme,
    )  # fmt: skip
    print(f"Gradio demo: http://127.0.0.1:{given.port}", flush=True)
    if given.share and not page.share_url:
        said = "no public address: Gradio's tunnel could not be made (it needs the network and a helper that Gradio"
        print(f"unmask: {said} downloads); the demo runs at its local address", file=sys.stderr, flush=True)
    page.block_thread()


if __name__ == "__main__":
    main()
