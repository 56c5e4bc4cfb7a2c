"""Sheets for people: a page of their own, and docs/reproduction.md.

`python -m train.reproduce.text FILE.json ... [--out docs/reproduction.md]` writes the page of all protocols with the
sheets (`unmask reproduce NAME --json FILE.json`) that there are.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from train.reproduce.protocol import Protocol, protocols
from train.reproduce.run import figure_name
from train.reproduce.sheet import Line, Sheet

HEAD = ("", "figure", "published", "ours (95 %)", "n", "found", "outcome")
STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:75rem;margin:2rem auto;padding:0 1rem;color:#1a202c}
table{border-collapse:collapse;width:100%}
td,th{text-align:left;padding:.35rem .6rem;border-bottom:1px solid #cbd5e0}
.yes{color:#22543d}.no{color:#8a4b08}"""
INTRODUCTION = """# Reproduction

What the papers print, and what this code gives when their protocol is run with the weights named. A figure counts as
reproduced where its 95 % interval holds the published number on the data of the published protocol, or, for published
outputs of one input, where it is within 0.00002. Everything else is *not reproduced*, with the reason; most data sets
and weights have to be asked for at their publishers. `unmask reproduce` lists the protocols, `unmask reproduce NAME
--data ROOT [--weights FILE]` runs one: `--report F.html` writes its sheet, `--json F` its numbers, `--save DIR` keeps
what was measured, so that a broken run goes on.

This page is made by `python -m train.reproduce.text docs/reproduction/*.json --out docs/reproduction.md`.
"""


def shown(line: Line) -> tuple[str, str]:
    """Our value with its interval, and n; "–" where there is none."""
    ours = line.ours
    if ours is None or ours.value is None:
        return "–", "–"
    span = "" if ours.low is None or ours.high is None else f" ({ours.low:.3f} to {ours.high:.3f})"
    return f"{ours.value:.4f}{span}", str(ours.n)


def _cells(line: Line) -> list[str]:
    value, n = shown(line)
    published = "–" if line.published is None else f"{line.published:.4g}"
    outcome = f"{line.outcome}: {line.why}" if line.why else line.outcome
    return [line.row, line.figure, published, value, n, line.found, outcome]


def html(sheet: Sheet) -> str:
    """A page that needs no network."""
    rows = [
        f'<tr class="{"yes" if line.reproduced else "no"}">'
        + "".join(f"<td>{escape(cell)}</td>" for cell in _cells(line))
        + "</tr>"
        for line in sheet.lines
    ]
    head = "".join(f"<th>{escape(cell)}</th>" for cell in HEAD)
    notes = "".join(f"<li>{escape(note)}</li>" for note in sheet.notes)
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Reproduction: {escape(sheet.protocol)}</title>'
        f"<style>{STYLE}</style><h1>{escape(sheet.protocol)}</h1><p>{escape(sheet.paper)}</p>"
        f"<p>Published: {escape(sheet.table)}</p><p>Weights: {escape(sheet.weights or 'none')}</p>"
        f"<p><code>{escape(sheet.command)}</code></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table><h2>Notes</h2><ul>{notes}</ul></html>\n"
    )


def markdown(known: Sequence[Protocol], sheets: Mapping[str, Sheet]) -> str:
    """docs/reproduction.md: every protocol, with its sheet where there is one."""
    parts = [INTRODUCTION]
    for one in known:
        sheet = sheets.get(one.name)
        parts.append(f"## {one.name}\n\n{one.paper}. Published: {one.table}.\n")
        if sheet is None:
            lines = [_missing(one)]
            parts.append(f"Needs {one.needs}. Weights: {one.weights}.\n\n    unmask reproduce {one.name} --data ROOT\n")
        else:
            lines = [_row(_cells(line)) for line in sheet.lines]
            parts.append(f"Weights: {sheet.weights or 'none'}.\n\n    {sheet.command}\n")
        rule = "| --- " * len(HEAD) + "|"
        parts.append("\n".join([_row(HEAD), rule, *lines]) + "\n")
        if notes := (sheet.notes if sheet else one.differences):
            parts.append("\n".join(f"- {note}" for note in notes) + "\n")
    return "\n".join(parts)


def _missing(one: Protocol) -> str:
    rows = []
    for row in one.rows:
        for figure, number in row.published.items():
            published = "–" if number is None else f"{number:.4g}{' (recalled)' if row.recalled else ''}"
            why = "not reproduced: the data is not here"
            rows.append(_row([row.name, figure_name(one, row.level, figure), published, "–", "–", "nothing", why]))
    return "\n".join(rows)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def read_sheets(files: Sequence[Path]) -> dict[str, Sheet]:
    """Sheets from their JSON, by protocol."""
    found = [Sheet.from_dict(json.loads(path.read_text(encoding="utf-8"))) for path in files]
    return {sheet.protocol: sheet for sheet in found}


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m train.reproduce.text", description="docs/reproduction.md")
    parser.add_argument("sheets", nargs="*", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args(arguments)
    given.out.write_text(markdown(protocols(), read_sheets(given.sheets)), encoding="utf-8")


if __name__ == "__main__":
    main()
