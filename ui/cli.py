"""`unmask`: the command line. Heavy modules are imported by the command that needs them, so that --help is instant."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from ui.errors import UsageError, describe

app = typer.Typer(
    name="unmask",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A deepfake-forensics workbench: published detectors, calibrated, served and explained.",
)
weights = typer.Typer(no_args_is_help=True, help="List, import, check and export trained weights.")
app.add_typer(weights, name="weights")

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"unmask {version('unmask-forensics')}")
        raise typer.Exit


@app.callback()
def root(
    debug: Annotated[bool, typer.Option("--debug", help="Show the stack trace of an unexpected error.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    if debug:
        os.environ["UNMASK_DEBUG"] = "1"


@app.command("scan")
def scan_command(
    paths: Annotated[list[Path], typer.Argument(metavar="PATH", help="Images, videos, or LRNet landmark .txt.")],
    json_to: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write all answers as JSON.")] = None,
    detectors: Annotated[str | None, typer.Option(metavar="A,B", help="Only these detectors.")] = None,
    heatmaps: Annotated[Path | None, typer.Option(metavar="DIR", help="Write crops, heatmaps and overlays.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="F.yaml", help="Limits and settings of the analysis.")] = None,
    extractor: Annotated[
        str | None, typer.Option(metavar="NAME", help="What found the landmarks of a .txt, for example dlib68.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Take the media files of folders.")] = False,
) -> None:
    """Say of each input whether its faces show signs of manipulation.

    Exit 0: all analysed. 2: usage. 3: some inputs could not be analysed, only in part, or show no face.
    """
    from rich.console import Console

    from ui import scan as scanning

    settings = scanning.load_settings(config, detectors)
    inputs, notes = scanning.expand(paths, recursive)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for note in notes:
        errors.print(note, markup=False)
    from detectors.local import LocalStages
    from detectors.pipeline import choose

    stages = LocalStages()
    try:
        choose(stages.infos(), settings.detectors)
    except ValueError as error:
        raise UsageError(f"--detectors: {error}") from None
    debug = bool(os.environ.get("UNMASK_DEBUG"))
    scanned = list(scanning.scan(inputs, stages, settings, extractor=extractor, heatmaps=heatmaps, debug=debug))
    if json_to:
        scanning.write_json(scanned, json_to)
    if json_to != "-" and scanned:
        Console(highlight=False, width=None if sys.stdout.isatty() else 120).print(scanning.render(scanned))
    if not scanned or not all(one.answered for one in scanned):
        raise typer.Exit(3)


@app.command("detectors")
def detectors_command(
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """The detectors: method, paper, profiles, parameters, weights and their measured figures."""
    from ui import listing

    listing.print_detectors(as_json)


def _known_method(name: str) -> None:
    from detectors.registry import entry

    try:
        entry(name)
    except ValueError as error:
        raise UsageError(str(error)) from None


@weights.command("list")
def weights_list(as_json: Annotated[bool, typer.Option("--json", help="The cards as JSON.")] = False) -> None:
    """Every weights card that is known, in the order in which they are looked up."""
    from ui import listing

    listing.print_weights(as_json)


@weights.command("import")
def weights_import(
    method: Annotated[str, typer.Argument(help="A detector's name, as `unmask detectors` lists it.")],
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Published files, or one folder of them.")],
    name: Annotated[str | None, typer.Option(help="Name to keep them under.")] = None,
    licence: Annotated[str | None, typer.Option(help="The publisher's licence, for the card.")] = None,
    compact: Annotated[bool, typer.Option("--compact", help="As the compact profile's weights.")] = False,
) -> None:
    """Convert a published checkpoint (.pth, .tar, .h5, ...) to safetensors; no code in it is run."""
    from detectors.importers import UNKNOWN_LICENCE, import_weights
    from detectors.store import user_store

    _known_method(method)
    profile: Any = "compact" if compact else "paper"
    card = import_weights(method, files, name, licence=licence or UNKNOWN_LICENCE, profile=profile)
    typer.echo(
        f"{card.name}: {card.detector} ({card.profile}), sha256 {card.sha256[:12]}, in {user_store() / card.file}"
    )
    if licence is None:
        typer.echo("Its licence is not known: look it up at the publisher before you pass the weights on.", err=True)


@weights.command("verify")
def weights_verify() -> None:
    """Check that every weights file is what its card says and fits its network; exit 3 where one does not."""
    from ui import listing

    if not listing.verify_weights():
        raise typer.Exit(3)


@weights.command("export")
def weights_export(
    method: Annotated[str, typer.Argument(help="A detector's name.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for the file and its manifest.")],
    paper: Annotated[bool, typer.Option("--paper", help="The paper profile's weights.")] = False,
    onnx: Annotated[bool, typer.Option("--onnx", help="As an ONNX network too, for other runtimes.")] = False,
) -> None:
    """Copy the weights that are in use, with their card, into a folder."""
    from detectors.store import export, load

    _known_method(method)
    profile: Any = "paper" if paper else "compact"
    card = export(method, profile, out)
    typer.echo(f"{card.name} in {out / card.file}")
    if onnx:
        from detectors.onnx_export import ExportError, to_onnx

        try:
            made = to_onnx(load(method, profile, out), (out / card.file).with_suffix(".onnx"))
        except ExportError as error:
            raise UsageError(str(error)) from None
        typer.echo(f"{card.name} as ONNX in {made}")


@app.command("landmarks")
def landmarks_command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="The video that the landmarks belong to.")],
    out: Annotated[Path, typer.Option(metavar="F", help="LRNet's .txt of calibrated landmarks.")],
    landmarks: Annotated[
        Path | None, typer.Option(metavar="CSV|TXT", help="Landmarks of another extractor (OpenFace's CSV, or pixels).")
    ] = None,
    video: Annotated[Path | None, typer.Option(metavar="F.mp4", help="Write the overlay, before and after.")] = None,
    track: Annotated[int | None, typer.Option(metavar="N", help="Which face, where there are several.")] = None,
) -> None:
    """Calibrate a video's landmarks: optical flow takes the extractor's jitter out."""
    from preprocessing.errors import MediaError
    from preprocessing.landmarks_command import landmarks as write

    try:
        found = write(source, out, source=landmarks, video=video, track=track)
    except MediaError as error:
        typer.echo(f"{source}: {error}", err=True)
        raise typer.Exit(3) from None
    except ValueError as error:
        raise UsageError(str(error)) from None
    for message in found.messages:
        typer.echo(message, err=True)
    rejected = f"flow rejected for {found.rejected_share:.1%} of the points"
    typer.echo(f"{out}: {found.rows} frames of face {found.track}, {found.size} pixels large, {rejected}")
    if found.video is not None:
        typer.echo(f"{found.video}: before and after calibration")


@app.command("synth")
def synth_command(
    source: Annotated[Path, typer.Argument(metavar="IN", help="A picture, a video, or a folder of them.")],
    method: Annotated[str, typer.Option(metavar="NAME", help="What is done; a wrong name lists them all.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new folder for what is made.")],
    count: Annotated[int | None, typer.Option(metavar="N", help="Fakes in all; without it one an input, or 8.")] = None,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="The same seed makes the same fakes.")] = 0,
    donor: Annotated[Path | None, typer.Option(metavar="FILE", help="Whose face swaps show.")] = None,
) -> None:
    """Make pseudo-fakes of real faces, with masks and X-rays, to train on or to test with.

    Exit 0: all inputs gave fakes. 2: usage. 3: some inputs gave none, or nothing was made.
    """
    from preprocessing.errors import MediaError
    from ui import synth

    debug = bool(os.environ.get("UNMASK_DEBUG"))
    try:
        made = synth.run(source, method, out, count=count, seed=seed, donor=donor, debug=debug)
    except MediaError as error:
        typer.echo(f"{source}: {error}", err=True)
        raise typer.Exit(3) from None
    synth.report(made, out)
    if made.failures or not made.rows:
        raise typer.Exit(3)


@app.command("train", context_settings=PASS_ON)
def train_command(context: typer.Context) -> None:
    """Train a detector from a recipe: RECIPE [--data DIR] [--local] [key=value ...]."""
    from train.__main__ import main as train

    raise typer.Exit(train(context.args))


@app.command("evaluate")
def evaluate_command(
    data: Annotated[Path, typer.Option(metavar="DIR|MANIFEST.csv", help="Labelled media.")],
    detectors: Annotated[str | None, typer.Option(metavar="A,B", help="Only these detectors.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="F.yaml", help="Limits and settings of the analysis.")] = None,
    split: Annotated[str | None, typer.Option(help="Only rows of this split.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only image or video rows.")] = None,
    sha_prefix: Annotated[
        str | None, typer.Option(metavar="DIGITS", help="Only files whose sha256 begins with one of these digits.")
    ] = None,
    without: Annotated[str | None, typer.Option(metavar="A,B", help="Leave these data sets out.")] = None,
    json_to: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="The whole report.")] = None,
) -> None:
    """AUC, AP, EER, accuracy and calibration with intervals, on labelled media, through the shipped pipeline."""
    from ui import evaluation

    evaluation.run(data, detectors, config, json_to, split=split, kind=kind, sha_prefix=sha_prefix, without=without)


@app.command("prepare")
def prepare_command(
    dataset: Annotated[str, typer.Argument(help="The data set's layout, or auto; docs/datasets.md lists them.")],
    root: Annotated[str, typer.Argument(metavar="ROOT", help="Its folder, or any fsspec address.")],
    out: Annotated[str | None, typer.Option(metavar="DIR", help="The prepared set; without it, only look.")] = None,
    count: Annotated[int | None, typer.Option(help="Frames of a video, evenly spaced (default 32).")] = None,
    stride: Annotated[int | None, typer.Option(help="Instead: every n-th frame.")] = None,
    runs: Annotated[str | None, typer.Option(metavar="NxLENGTH", help="Instead: runs of consecutive frames.")] = None,
    crop: Annotated[str | None, typer.Option(help="margin: native resolution; aligned: eyes level.")] = None,
    size: Annotated[int | None, typer.Option(help="Pixels of a crop's side (default 320).")] = None,
    margin: Annotated[float | None, typer.Option(help="Crop side over the face's (default 2).")] = None,
    image: Annotated[str | None, typer.Option(help="png or jpeg.")] = None,
    faces: Annotated[str | None, typer.Option(help="main: one person a video; all.")] = None,
    detector: Annotated[str | None, typer.Option(help="auto, hog, cnn or mtcnn.")] = None,
    landmark_model: Annotated[Path | None, typer.Option(metavar="F.dat", help="A dlib model of 81 points.")] = None,
    split: Annotated[str | None, typer.Option(help="auto (the set's own, if any), own, people or none.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of an own split.")] = None,
    methods: Annotated[str | None, typer.Option(metavar="A,B", help="Only these; real for the real ones.")] = None,
    compressions: Annotated[str | None, typer.Option(metavar="A,B", help="Only these, for example c23.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many videos.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Actors (default: one a core).")] = None,
    local: Annotated[bool, typer.Option("--local", help="In this process, without Ray.")] = False,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; without it, one of our own.")] = None,
) -> None:
    """A data set into shards of face crops, landmarks and masks that training reads; a killed run is continued.

    Exit 0: every video was read. 2: usage. 3: some could not be; DIR/failures.jsonl says why.
    """
    from ui import prepare

    options = {
        "count": count, "stride": stride, "runs": runs, "crop": crop, "size": size, "margin": margin, "image": image,
        "faces": faces, "detector": detector, "landmark_model": landmark_model, "split": split, "seed": seed,
    }  # fmt: skip
    code = prepare.run(
        dataset, root, out, options, methods=methods, compressions=compressions, limit=limit, local=local,
        workers=workers, address=address,
    )  # fmt: skip
    raise typer.Exit(code)


@app.command("serve")
def serve_command(
    config: Annotated[Path | None, typer.Option(metavar="F.yaml", help="The graph's configuration.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the API.")] = 8000,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; without it, one of our own.")] = None,
) -> None:
    """The API: the composition graph on Ray Serve."""
    from ui import demo

    raise typer.Exit(demo.serve(host, port, config, address))


@app.command("ui")
def ui_command(
    api: Annotated[str, typer.Option(help="Address of the API.")] = "http://127.0.0.1:8000",
    dashboard_port: Annotated[int, typer.Option(help="Port of the Streamlit dashboard.")] = 8501,
    gradio_port: Annotated[int, typer.Option(help="Port of the Gradio demo.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="A public address for the Gradio demo.")] = False,
) -> None:
    """The Streamlit dashboard and the Gradio demo, against a running API."""
    from ui import demo

    raise typer.Exit(demo.pages(api, dashboard_port, gradio_port, share))


@app.command("demo")
def demo_command(
    api_port: Annotated[int, typer.Option(help="Port of the API.")] = 8000,
    dashboard_port: Annotated[int, typer.Option(help="Port of the Streamlit dashboard.")] = 8501,
    gradio_port: Annotated[int, typer.Option(help="Port of the Gradio demo.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help="A public address for the Gradio demo.")] = False,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; without it, one of our own.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="F.yaml", help="The graph's configuration.")] = None,
) -> None:
    """Everything: the API, both pages, and the bundled sample analysed. Ctrl-C ends it all."""
    from ui import demo

    raise typer.Exit(demo.demo(api_port, dashboard_port, gradio_port, share, address, config))


@app.command("bench")
def bench_command(
    name: Annotated[str | None, typer.Argument(help="One benchmark; without it, all.")] = None,
    json_to: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write the rows as JSON.")] = None,
) -> None:
    """Measure again what the README quotes."""
    from ui import bench

    bench.run(name, json_to)


KNOWN_ERRORS = {
    "ui.errors": ("UsageError",),
    "ui.client": ("ApiError",),
    "detectors.store": ("WeightsError",),
    "detectors.checkpoints": ("CheckpointError",),
    "train.recipe": ("RecipeError",),
    "preprocessing.models": ("ModelFileError",),
    "preprocessing.errors": ("MediaError",),
}
"""Errors that say themselves what is wrong and what to do; by module, because importing all of them takes seconds."""


def _known(error: Exception) -> bool:
    classes = (getattr(sys.modules[m], n) for m, names in KNOWN_ERRORS.items() if m in sys.modules for n in names)
    return isinstance(error, tuple(classes))


def _leave_hanging_detectors(status: int) -> None:
    """End the process at once where a detector that overran its deadline still runs: native code in a thread would
    otherwise crash the interpreter's orderly end."""
    local = sys.modules.get("detectors.local")
    if local is None:
        return
    hanging = [thread for thread in threading.enumerate() if thread.name.startswith(local.DETECTOR_THREAD)]
    for thread in hanging:
        thread.join(0.5)  # most have answered and are about to end
    if any(thread.is_alive() for thread in hanging):
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main() -> None:
    """The console script. Never a stack trace, unless --debug asks for it."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        arguments.insert(0, "--debug")
    try:
        app(args=arguments)
    except SystemExit as leave:
        _leave_hanging_detectors(leave.code if isinstance(leave.code, int) else 1)
        raise
    except KeyboardInterrupt:
        print("unmask: stopped", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter's flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except Exception as error:
        if os.environ.get("UNMASK_DEBUG"):
            raise
        if _known(error):
            print(f"unmask: {error}", file=sys.stderr)
            raise SystemExit(3 if getattr(error, "status", None) else 2) from None
        print(f"unmask: unexpected {describe(error)}", file=sys.stderr)
        print("This is a fault of unmask's: run it again with --debug, and report what it shows.", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
