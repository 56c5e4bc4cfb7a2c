"""`unmask weights`: list, import, check and export trained weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ui.errors import UsageError

weights = typer.Typer(no_args_is_help=True, help="List, import, check and export trained weights.")


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
    typer.echo(f"Data: {card.data}.")
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
