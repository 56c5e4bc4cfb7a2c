"""Pieces of a page as HTML, shared by the dashboard and the demo; style.css gives them their look.

Everything that comes from a result or a file name is escaped here: both may be written by whoever made the file.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from html import escape
from pathlib import Path

from detectors.result import AnalysisResult
from ui.words import FAILED, STAGES, VERDICTS, clock, deciding_face, percent, probability, quality_words

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def verdict_card(result: AnalysisResult) -> str:
    """The verdict in careful words, the probability on its axis with interval and threshold, and the reasons."""
    words = VERDICTS[result.verdict]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in result.reasons)
    return (
        f'<section class="um-verdict" data-verdict="{result.verdict}" style="--um-hue:{words.colour}">'
        f'<div class="um-verdict-top"><div class="um-verdict-words"><p class="um-name">{escape(result.media.name)}</p>'
        f"<h2>{words.title}</h2><p>{words.meaning}</p></div>{_probability(result)}</div>"
        f'{_gauge(result)}<ul class="um-reasons">{reasons}</ul></section>'
    )


def _probability(result: AnalysisResult) -> str:
    if result.score is None:
        return ""
    interval = ""
    if result.interval is not None:
        low, high = result.interval
        interval = f"<small>between {percent(low)} and {percent(high)}</small>"
    return (
        f'<div class="um-number"><b>{percent(result.score)}</b><span>probability of manipulation</span>{interval}</div>'
    )


def _gauge(result: AnalysisResult) -> str:
    if result.score is None:
        return ""
    low, high = result.interval or (result.score, result.score)
    return (
        '<div class="um-gauge" role="img" aria-label="'
        f"score {probability(result.score)}, interval {probability(low)} to {probability(high)}, "
        f'threshold {probability(result.threshold)}"><i class="um-band" '
        f'style="left:{low:.2%};width:{max(high - low, 0.004):.2%}"></i>'
        f'<i class="um-tick" style="left:{result.threshold:.2%}"></i>'
        f'<i class="um-dot" style="left:{result.score:.2%}"></i></div>'
        '<div class="um-scale"><span>real</span><span>fake</span></div>'
    )


def error_card(name: str, reason: str, hint: str = "") -> str:
    """An input that could not be analysed: its name, the reason, the way out."""
    way = f"<p>{escape(_sentence(hint))}</p>" if hint else ""
    return (
        f'<section class="um-verdict um-error" data-verdict="failed" style="--um-hue:{FAILED.colour}">'
        f'<p class="um-name">{escape(name)}</p><h2>{FAILED.title}</h2>'
        f'<p class="um-reason">{escape(_sentence(reason))}</p>{way}</section>'
    )


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def progress_card(name: str, stage: str, share: float) -> str:
    """Where an analysis stands, stage by stage."""
    order = list(STAGES)
    at = order.index(stage) if stage in order else 0
    steps = []
    for index, (key, title) in enumerate(STAGES.items()):
        if key == "done":
            continue
        done = 1.0 if index < at else (share if index == at else 0.0)
        state = "done" if index < at else ("now" if index == at else "")
        steps.append(
            f'<li class="{state}"><span>{title}</span><div class="um-bar"><i style="width:{done:.0%}"></i></div></li>'
        )
    return (
        f'<section class="um-progress" data-stage="{escape(stage)}"><p class="um-name">{escape(name)}</p>'
        f"<ol>{''.join(steps)}</ol></section>"
    )


def crops(pictures: Sequence[tuple[bytes, str]], alt: str) -> str:
    """JPEGs with their captions, as many in a row as fit."""
    figures = [
        f'<figure><img src="data:image/jpeg;base64,{b64encode(content).decode()}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for content, caption in pictures
    ]
    return f'<div class="um-crops">{"".join(figures)}</div>'


def facts(result: AnalysisResult) -> str:
    """The media as decoded, and what the analysis cost."""
    media = result.media
    rows: list[tuple[str, str]] = [("Kind", f"{media.kind}, {media.container} ({media.codec})")]
    if media.width and media.height:
        rows.append(("Size", f"{media.width} × {media.height} pixels"))
    if media.duration_s:
        rate = f" at {media.fps:.4g} frames a second" if media.fps else ""
        rows.append(("Length", f"{clock(media.duration_s)}{rate}"))
    rows += [
        ("Frames looked at", f"{media.frames_analysed:,}"),
        ("People", str(len(result.faces))),
        ("Content credentials", result.provenance.get("status", "not checked")),
        ("Analysed in", f"{sum(result.timings.values()):.1f} s"),
        ("sha256", media.sha256),
    ]
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows)
    return f'<dl class="um-facts">{items}</dl>'


def notices(result: AnalysisResult) -> str:
    """What a reader must know before trusting the verdict; empty where there is nothing."""
    lines = [_sentence(notice.message) for notice in result.warnings]
    face = deciding_face(result)
    if face and face.quality:
        lines.append(f"The deciding face: {', '.join(quality_words(face))}.")
    if not lines:
        return ""
    return f'<ul class="um-notices">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'
