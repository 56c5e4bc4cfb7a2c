"""Pieces of the operator's pages as HTML: states, tables with intervals, cards of detectors. All text is escaped."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ui import evaluation_words, operator_words
from ui.operator_words import OUTCOMES, Sign
from ui.words import FAILED, SPAN, size

NOT_MEASURED = f'<span class="um-none">{operator_words.NOT_MEASURED}</span>'


def state(sign: Sign, more: str = "") -> str:
    """A state as sign and words."""
    tail = f" · {escape(more)}" if more else ""
    return (
        f'<span class="um-state" style="--um-hue:{sign.colour}"><i aria-hidden="true">{sign.sign}</i>{sign.title}{tail}'
        "</span>"
    )


def trouble(title: str, reason: str, hint: str = "") -> str:
    """What does not work, why, and the way out; what `hint` has between backquotes is a command."""
    parts = escape(sentence(hint)).split("`") if hint else []
    way = "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
    return (
        f'<section class="um-verdict um-error" data-verdict="failed" style="--um-hue:{FAILED.colour}" role="alert">'
        f'<h2 class="um-trouble">{escape(title)}</h2><p class="um-reason">{escape(sentence(reason))}</p>'
        f"{f'<p>{way}</p>' if way else ''}</section>"
    )


def sentence(text: str) -> str:
    """With a capital at its beginning and a full stop at its end."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?", ":")) else ".")


def tiles(shown: Iterable[tuple[str, str, str]]) -> str:
    """Figures at a glance: what, value, and what else to know."""
    made = "".join(
        f'<div class="um-tile"><span>{escape(what)}</span><b>{escape(value)}</b><small>{escape(more)}</small></div>'
        for what, value, more in shown
    )
    return f'<div class="um-tiles">{made}</div>'


def table(
    head: Sequence[str], rows: Iterable[Sequence[str]], caption: str, words: Container[int] = (), stacked: bool = False
) -> str:
    """Cells are HTML; the first of a row is its heading; columns numbered in `words` hold words, the others figures.
    Scrolls by itself where it is too wide; `stacked`: on a phone a row's heading stands above its cells instead."""
    shape = "um-table um-stacked" if stacked else "um-table"
    kind = [' class="um-words"' if at in words else "" for at in range(len(head))]
    columns = "".join(f'<th scope="col"{of}>{cell}</th>' for cell, of in zip(head, kind, strict=True))
    body = "".join(
        f'<tr><th scope="row">{first}</th>'
        f"{''.join(f'<td{of}>{cell}</td>' for cell, of in zip(rest, kind[1:], strict=True))}</tr>"
        for first, *rest in rows
    )
    return (
        f'<div class="um-scroll" tabindex="0" role="region" aria-label="{escape(caption)}"><table class="{shape}">'
        f"<caption>{escape(caption)}</caption><thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def breakable(route: str) -> str:
    """A path as HTML that may go on in the next line after each slash."""
    return escape(route).replace("/", "/<wbr>")


def estimate(one: Mapping[str, Any] | None) -> str:
    """A figure over its 95 % interval."""
    if not one or one.get("value") is None:
        return "–"
    low, high = one.get("low"), one.get("high")
    if low is None or high is None:
        return f"{one['value']:.3f}"
    return f"{one['value']:.3f}<small>{SPAN.format(low=f'{low:.2f}', high=f'{high:.2f}')}</small>"


def headline(found: Mapping[str, Any]) -> str:
    """The figures of the fused score and of each detector, with intervals."""
    figures_of = evaluation_words.FIGURES
    titles = (f"{title}<small>{meaning}</small>" for title, meaning in figures_of.values())
    head = ["", evaluation_words.FILES_COLUMN, *titles]
    named = {evaluation_words.FUSED_ROW: found["overall"], **found["by_detector"]}
    rows = []
    for name, figures in named.items():
        n = str(figures["accuracy"]["n"]) if figures else "0"
        rows.append([escape(name), n, *(estimate(figures.get(figure)) for figure in figures_of)])
    return table(head, rows, evaluation_words.FIGURES_CAPTION)


def said(found: Mapping[str, Any]) -> str:
    """How many of the reals and of the fakes were called what."""
    counts = found["verdicts"]
    outcomes = [name for name in OUTCOMES if any(name in one for one in counts.values())]
    head = ["", *(escape(OUTCOMES[name]) for name in outcomes)]
    rows = [
        [title, *(str(counts[label].get(name, 0)) for name in outcomes)]
        for label, title in evaluation_words.LABELLED.items()
    ]
    return table(head, rows, evaluation_words.CALLED)


def model_card(card: Mapping[str, Any]) -> str:
    """A detector with weights: method, figures, licence, robustness, where the weights come from."""
    tags = [str(card["profile"]), *([] if card["calibrated"] else [operator_words.NOT_CALIBRATED])]
    tagged = "".join(f'<span class="um-tag">{escape(tag)}</span>' for tag in [str(card["name"]), *tags])
    plain = [one for one in card["metrics"] if not one.get("perturbation")]
    perturbed = [one for one in card["metrics"] if one.get("perturbation")]
    facts = "".join(f"<dt>{key}</dt><dd>{value}</dd>" for key, value in _facts(card) if value)
    return (
        f'<section class="um-card" data-detector="{escape(str(card["name"]))}"><h3>{escape(card["title"])}{tagged}</h3>'
        f"<p>{escape(card['looks_at'])}</p><h4>{operator_words.MEASURED}</h4>{_measured(plain)}"
        f'<h4>{operator_words.ROBUST}</h4>{_robust(perturbed)}<dl class="um-facts">{facts}</dl></section>'
    )


def _facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    titles = operator_words.CARD
    paper = escape(operator_words.CARD_PAPER.format(paper=card["paper"], year=card["year"]))
    if str(card["url"]).startswith("https://"):
        paper = f'<a href="{escape(card["url"])}" target="_blank" rel="noopener">{paper}</a>'
    weights = [str(card["weights"]).partition("@")[0], operator_words.CARD_PARAMETERS.format(count=card["parameters"])]
    if card.get("bytes"):
        weights.append(size(int(card["bytes"])))
    if card.get("date"):
        weights.append(operator_words.CARD_MADE.format(date=card["date"]))
    return [
        (titles["paper"], paper),
        (titles["weights"], escape(", ".join(weights))),
        (titles["sha256"], f"<code>{escape(str(card.get('sha256', '')))}</code>" if card.get("sha256") else ""),
        (titles["licence"], escape(card["licence"])),
        (titles["data"], escape(card["data"])),
        (titles["calibration"], escape(str(card.get("calibration", "")))),
        (titles["limits"], escape(card["limits"])),
    ]


def _measured(metrics: Sequence[Mapping[str, Any]]) -> str:
    if not metrics:
        return f"<p>{NOT_MEASURED}</p>"
    rows = [
        [
            escape(str(one["set"])) + (f"<small>{escape(str(one['note']))}</small>" if one.get("note") else ""),
            f'<span class="um-figure">{escape(_metric(one))}</span> '
            f"{estimate(one)}<small>{operator_words.MEASURED_OF.format(count=one['n'])}</small>",
        ]
        for one in metrics
    ]
    return table(operator_words.MEASURED_HEAD, rows, operator_words.MEASURED_CAPTION)


def _metric(one: Mapping[str, Any]) -> str:
    return operator_words.METRICS.get(str(one["metric"]), str(one["metric"]))


def _robust(metrics: Sequence[Mapping[str, Any]]) -> str:
    """One row a set and figure, one column a step, called as its figures' notes call it."""
    if not metrics:
        return f"<p>{NOT_MEASURED}</p>"
    steps = list(dict.fromkeys(str(one["perturbation"]) for one in metrics))
    words = {str(one["perturbation"]): str(one.get("note") or "").partition(";")[0] for one in metrics}
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for one in metrics:
        cells.setdefault((str(one["set"]), str(one["metric"])), {})[str(one["perturbation"])] = estimate(one)
    head = ["", *(escape(words[step] or step) for step in steps)]
    rows = [
        [f"{escape(metric)}<small>{escape(where)}</small>", *(found.get(step, NOT_MEASURED) for step in steps)]
        for (where, metric), found in cells.items()
    ]
    return table(head, rows, operator_words.ROBUST_CAPTION)
