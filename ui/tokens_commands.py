"""`unmask tokens`: who may use the service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ui.errors import UsageError

if TYPE_CHECKING:
    from serve.access import Tokens

tokens = typer.Typer(no_args_is_help=True, help="Who may use the service: make, list and remove tokens.")
Config = Annotated[Path | None, typer.Option("--config", metavar="F.yaml", help="The service's configuration.")]


def _held(config: Path | None) -> Tokens:
    from serve.access import Tokens
    from serve.launch import LAPTOP, LaunchError, read_config

    try:
        return Tokens(read_config(config or LAPTOP).args.folder / "tokens.json")
    except LaunchError as error:
        raise UsageError(str(error)) from None


@tokens.command("add")
def tokens_add(
    name: Annotated[str, typer.Argument(help="Whose it is: letters, digits, and . _ @ -")],
    role: Annotated[
        str, typer.Option(help="viewer (reads its own), analyst (makes them), operator (all).")
    ] = "analyst",
    days: Annotated[float | None, typer.Option(help="How long it holds; without it, until it is removed.")] = None,
    per_minute: Annotated[int, typer.Option(min=1, help="Uploads a minute.")] = 60,
    gigabytes: Annotated[float, typer.Option(min=0, help="Media that are kept at the same time.")] = 20,
    config: Config = None,
) -> None:
    """Make a token and show it, once: only its hash is kept. With the first one, everybody needs one."""
    from serve.access import ROLES

    if role not in ROLES:
        raise UsageError(f"there is no role {role!r}: {', '.join(ROLES)}")
    held = _held(config)
    try:
        first = not held.cards()
        typer.echo(held.add(name, role, days, per_minute, int(gigabytes * 1024**3)))
    except ValueError as error:
        raise UsageError(str(error)) from None
    typer.echo(f"kept as a hash in {held.path}; send it as `Authorization: Bearer TOKEN`", err=True)
    if first:
        typer.echo("from now on the service asks everybody for a token", err=True)


@tokens.command("list")
def tokens_list(config: Config = None) -> None:
    """Names, roles and limits; never the tokens."""
    try:
        cards = _held(config).cards()
    except ValueError as error:
        raise UsageError(str(error)) from None
    if not cards:
        typer.echo("no tokens: the service answers its own machine only")
    for card in cards:
        ends = "" if card.expires is None else f", until {time.strftime('%Y-%m-%d', time.gmtime(card.expires))}"
        kept = f"{card.max_bytes / 1024**3:g} GiB"
        typer.echo(f"{card.name}: {card.role}, {card.per_minute} uploads a minute, {kept} of media{ends}")


@tokens.command("remove")
def tokens_remove(name: str, config: Config = None) -> None:
    """It stops working at once; its analyses stay, for the next token of that name."""
    try:
        _held(config).remove(name)
    except ValueError as error:
        raise UsageError(str(error)) from None
    typer.echo(f"what {name} analysed is kept, and whoever gets the next token of that name sees it", err=True)
