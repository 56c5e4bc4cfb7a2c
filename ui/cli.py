"""`unmask`: the command line. Heavy modules are imported by the command that needs them, so that --help is instant."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ui.ending import is_known, leave_hanging_detectors
from ui.errors import UsageError, describe
from ui.tokens_commands import tokens
from ui.weights_commands import weights

app = typer.Typer(
    name="unmask",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="A deepfake-forensics workbench: published detectors, calibrated, served and explained.",
)
app.add_typer(weights, name="weights")
app.add_typer(tokens, name="tokens")

BackendOption = Annotated[
    Literal["torch", "onnx"], typer.Option(help="What runs the networks; onnx: ONNX Runtime, on the CPU.")
]
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
SHARE = "A public address for the Gradio demo: asks for a password, and has the limits of --hosted."


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
    paths: Annotated[
        list[Path] | None, typer.Argument(metavar="PATH", help="Images, videos, or LRNet landmark .txt.")
    ] = None,
    json_to: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write all answers as JSON.")] = None,
    detectors: Annotated[str | None, typer.Option(metavar="A,B", help="Only these detectors.")] = None,
    heatmaps: Annotated[Path | None, typer.Option(metavar="DIR", help="Write crops, heatmaps and overlays.")] = None,
    annotated: Annotated[
        Path | None, typer.Option("--annotate", metavar="DIR", help="Write the media with boxes and scores drawn in.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="F.html|pdf|json", help="Write one file with everything.")
    ] = None,
    verify: Annotated[
        Path | None, typer.Option(metavar="F.html|pdf|json", help="Analyse a report's files again: same answers?")
    ] = None,
    config: Annotated[Path | None, typer.Option(metavar="F.yaml", help="Limits and settings of the analysis.")] = None,
    extractor: Annotated[
        str | None, typer.Option(metavar="NAME", help="What found the landmarks of a .txt, for example dlib68.")
    ] = None,
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Take the media files of folders.")] = False,
    backend: BackendOption = "torch",
) -> None:
    """Say of each input whether its faces show signs of manipulation.

    Exit 0: all analysed. 2: usage. 3: some inputs could not be analysed, only in part, or show no face; with
    --verify, something is otherwise than the report says.
    """
    from rich.console import Console

    from ui import scan as scanning

    if verify is not None:
        raise typer.Exit(scanning.verify(verify, paths or [], backend))
    if not paths:
        raise UsageError("nothing to scan", "give an image or a video")
    settings = scanning.load_settings(config, detectors)
    if report is not None:
        from ui.report import Report, form_of

        form_of(report)
    inputs, notes = scanning.expand(paths, recursive)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for note in notes:
        errors.print(note, markup=False)
    from preprocessing.memory import loading

    with loading():
        from detectors.explain import map_kind
        from detectors.store import load_available

        loaded = load_available()
    stages = scanning.stages_on(backend, settings.detectors, loaded)
    debug = bool(os.environ.get("UNMASK_DEBUG"))
    maps = {name: map_kind(one.detector) for name, one in loaded.items()}
    page = Report(settings.model_dump(mode="json"), extractor, maps) if report else None
    answers = scanning.scan(
        inputs, stages, settings, extractor=extractor, heatmaps=heatmaps, annotated=annotated, report=page, debug=debug
    )
    scanned = list(answers)
    if page and report:
        page.write(report)
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
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many files, spread over sets and classes.")
    ] = None,
    level: Annotated[
        str | None, typer.Option(metavar="A,B", help="frame, clip, track, video or all (the default).")
    ] = None,
    perturb: Annotated[
        str | None, typer.Option(metavar="A,B", help="Robustness: suites of perturbations, or all.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Files at once.")] = 1,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep each file's numbers there; the next run goes on from them.")
    ] = None,
    trained_on: Annotated[
        Path | None, typer.Option(metavar="PLACE", help="A pack, prepared set or media: stop where it is shown again.")
    ] = None,
    allow_leaks: Annotated[bool, typer.Option("--allow-leaks", help="Go on all the same; the report says so.")] = False,
    allow_fitted: Annotated[
        bool, typer.Option("--allow-fitted", help="Measure files that calibration or fusion were fitted on too.")
    ] = False,
    json_to: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Everything, as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Curves, tables and mistakes.")] = None,
    progress: Annotated[Path | None, typer.Option(metavar="FILE", help="Keep there how far it is, as JSON.")] = None,
    backend: BackendOption = "torch",
) -> None:
    """AUC, AP, EER, accuracy, calibration and robustness with intervals, on labelled media, as `unmask scan` sees them.

    Ctrl-C ends the analysis and reports what there is. Exit 0: done. 2: usage. 3: interrupted, or some files could not
    be analysed.
    """
    from ui import evaluation

    choice = evaluation.Choice(
        split,
        kind,
        sha_prefix,
        without,
        limit,
        level,
        perturb,
        jobs,
        save,
        trained_on,
        allow_leaks,
        progress,
        allow_fitted,
        backend,
    )
    with evaluation.stopped_by_sigterm():
        code = evaluation.run(data, detectors, config, json_to, report, choice)
    if code:
        raise typer.Exit(code)


@app.command("reproduce")
def reproduce_command(
    name: Annotated[str | None, typer.Argument(help="A protocol; without it, all are listed.")] = None,
    data: Annotated[
        list[Path] | None, typer.Option(metavar="ROOT", help="Folder of the data; may be repeated.")
    ] = None,
    weights: Annotated[
        Path | None, typer.Option(metavar="FILE|DIR", help="Published or own; else the installed ones of the paper.")
    ] = None,
    json_to: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="The sheet as JSON.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="FILE.html", help="The sheet as a page.")] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Keep what is measured; the next run goes on.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many videos of a row and class.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Of the recipe, where one is trained.")
    ] = None,
) -> None:
    """Run a paper's table again: ours beside theirs, or "not reproduced" and why.

    Exit 0: every figure was measured. 2: usage. 3: some could not be, for want of data or weights.
    """
    from ui import reproduce

    if not reproduce.run(name, data or [], weights, json_to, report, save, limit, overrides or []):
        raise typer.Exit(3)


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
    host: Annotated[str | None, typer.Option(help="Address to listen on; without it, the configuration's.")] = None,
    port: Annotated[int | None, typer.Option(help="Port of the API; without it, the configuration's.")] = None,
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
    share: Annotated[bool, typer.Option("--share", help=SHARE)] = False,
    hosted: Annotated[
        bool, typer.Option("--hosted", help="The Gradio demo for strangers: small files, a queue, no history.")
    ] = False,
) -> None:
    """The Streamlit dashboard and the Gradio demo, against a running API."""
    from ui import demo

    raise typer.Exit(demo.pages(api, dashboard_port, gradio_port, share, hosted))


@app.command("demo")
def demo_command(
    api_port: Annotated[int, typer.Option(help="Port of the API.")] = 8000,
    dashboard_port: Annotated[int, typer.Option(help="Port of the Streamlit dashboard.")] = 8501,
    gradio_port: Annotated[int, typer.Option(help="Port of the Gradio demo.")] = 7860,
    share: Annotated[bool, typer.Option("--share", help=SHARE)] = False,
    address: Annotated[str | None, typer.Option(help="A running Ray cluster; without it, one of our own.")] = None,
    config: Annotated[Path | None, typer.Option(metavar="F.yaml", help="The graph's configuration.")] = None,
) -> None:
    """Everything: the API, both pages, and the bundled sample analysed. Ctrl-C ends it all."""
    from ui import demo

    raise typer.Exit(demo.demo(api_port, dashboard_port, gradio_port, share, address, config))


@app.command("doctor")
def doctor_command(
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON.")] = False,
) -> None:
    """What works on this machine, and what to do about the rest. Exit 3 where analyses do not work."""
    from ui import doctor

    if not doctor.run(as_json):
        raise typer.Exit(3)


@app.command("bench")
def bench_command(
    name: Annotated[str | None, typer.Argument(help="One benchmark; without it, all.")] = None,
    json_to: Annotated[str | None, typer.Option("--json", metavar="FILE|-", help="Write the rows as JSON.")] = None,
) -> None:
    """Measure again what the README quotes."""
    from ui import bench

    bench.run(name, json_to)


def main() -> None:
    """The console script. Never a stack trace, unless --debug asks for it."""
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    if len(arguments) < len(sys.argv) - 1:
        arguments.insert(0, "--debug")
    try:
        app(args=arguments)
    except SystemExit as leave:
        leave_hanging_detectors(leave.code if isinstance(leave.code, int) else 1)
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
        if is_known(error):
            print(f"unmask: {error}", file=sys.stderr)
            raise SystemExit(3 if getattr(error, "status", None) else 2) from None
        print(f"unmask: unexpected {describe(error)}", file=sys.stderr)
        print("This is a fault of unmask's: run it again with --debug, and report what it shows.", file=sys.stderr)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
