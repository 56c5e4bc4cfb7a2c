"""Pieces of a page as HTML, shared by the dashboard and the demo; style.css gives them their look.

Everything that comes from a result or a file name is escaped here: both may be written by whoever made the file.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from detectors.result import AnalysisResult
from ui.words import (
    ANSWERS,
    BY_THE_FILE,
    CREDENTIAL_ANSWERS,
    CREDENTIAL_QUESTIONS,
    DECIDING_FACE,
    FACT_KIND,
    FACT_KIND_CODEC,
    FACT_LENGTH_RATE,
    FACT_SIZE,
    FACT_TOOK,
    FACTS,
    FAILED,
    FAKE,
    GAUGE_ALT,
    GAUGE_ALT_INTERVAL,
    INTERVAL,
    MEDIA_KINDS,
    METADATA,
    PROBABILITY,
    REAL,
    STAGES,
    VERDICTS,
    between,
    clock,
    codec_words,
    container_words,
    credentials_words,
    deciding_face,
    measure_words,
    percent,
    probability,
    quality_words,
)

STYLE = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")


def verdict_card(result: AnalysisResult, name: str = "") -> str:
    """The verdict in careful words, the probability on its axis with interval and threshold, and the reasons; `name`
    instead of the file's."""
    words = VERDICTS[result.verdict]
    reasons = "".join(f"<li>{escape(reason)}</li>" for reason in result.reasons)
    called = escape(name or result.media.name)
    return (
        f'<section class="um-verdict" data-verdict="{result.verdict}" style="--um-hue:{words.colour}">'
        f'<div class="um-verdict-top"><div class="um-verdict-words"><p class="um-name">{called}</p>'
        f"<h2>{words.title}</h2><p>{words.meaning}</p></div>{_probability(result)}</div>"
        f'{_gauge(result)}<ul class="um-reasons">{reasons}</ul></section>'
    )


def _probability(result: AnalysisResult) -> str:
    if result.score is None:
        return ""
    span = between(result.interval, percent)
    interval = f"<small>{INTERVAL.format(span=span)}</small>" if span else ""
    return f'<div class="um-number"><b>{percent(result.score)}</b><span>{PROBABILITY}</span>{interval}</div>'


def _gauge(result: AnalysisResult) -> str:
    if result.score is None:
        return ""
    low, high = result.interval or (result.score, result.score)
    span = between(result.interval)
    alt = (GAUGE_ALT_INTERVAL if span else GAUGE_ALT).format(
        score=probability(result.score), span=span, threshold=probability(result.threshold)
    )
    return (
        f'<div class="um-gauge" role="img" aria-label="{alt}"><i class="um-band" '
        f'style="left:{low:.2%};width:{max(high - low, 0.004):.2%}"></i>'
        f'<i class="um-tick" style="left:{result.threshold:.2%}"></i>'
        f'<i class="um-dot" style="left:{result.score:.2%}"></i></div>'
        f'<div class="um-scale"><span>{REAL}</span><span>{FAKE}</span></div>'
    )


def credentials_card(provenance: Mapping[str, str]) -> str:
    """Content credentials as three answers: there, valid, by a signer that this service trusts."""
    status = provenance.get("status", "not checked")
    answers = zip(CREDENTIAL_QUESTIONS, CREDENTIAL_ANSWERS.get(status, CREDENTIAL_ANSWERS["not checked"]), strict=True)
    shown = "".join(
        f'<li data-answer="{answer}"><b>{question}</b> {ANSWERS[answer]}</li>' for question, answer in answers
    )
    return f'<ul class="um-credentials">{shown}</ul><p>{escape(_sentence(credentials_words(provenance)))}</p>'


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


def progress_card(name: str, stage: str, share: float, detectors: Mapping[str, float] | None = None) -> str:
    """Where an analysis stands, stage by stage, and of each detector that has begun the share of the faces done."""
    order = list(STAGES)
    at = order.index(stage) if stage in order else 0
    steps = []
    for index, (key, title) in enumerate(STAGES.items()):
        if key == "done":
            continue
        done = 1.0 if index < at else (share if index == at else 0.0)
        state = "done" if index < at else ("now" if index == at else "")
        steps.append(f'<li class="{state}"><span>{title}</span>{_bar(title, done)}</li>')
    return (
        f'<section class="um-progress" data-stage="{escape(stage)}"><p class="um-name">{escape(name)}</p>'
        f"<ol>{''.join(steps)}</ol>{_detectors_under_way(detectors or {})}</section>"
    )


def _detectors_under_way(detectors: Mapping[str, float]) -> str:
    if not detectors:
        return ""
    rows = "".join(
        f"<li><span>{escape(name)}</span>{_bar(name, done)}</li>" for name, done in sorted(detectors.items())
    )
    return f'<ul class="um-each">{rows}</ul>'


def _bar(name: str, done: float) -> str:
    """`done` 0..1, also for those who do not see it."""
    value = f'aria-valuemin="0" aria-valuemax="100" aria-valuenow="{done * 100:.0f}"'
    return (
        f'<div class="um-bar" role="progressbar" aria-label="{escape(name)}" {value}>'
        f'<i style="width:{done:.0%}"></i></div>'
    )


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of text under a head; the first cell of a row names it. It scrolls sideways where the window is narrow."""
    top = "".join(f"<th scope=col>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th scope=row>{escape(row[0])}</th>{''.join(f'<td>{escape(cell)}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return (
        f'<div class="um-scroll" tabindex="0"><table class="um-table"><thead><tr>{top}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def definitions(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what they are, one pair a row."""
    items = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in rows)
    return f'<dl class="um-facts">{items}</dl>'


def crops(pictures: Sequence[tuple[bytes, str]], alt: str) -> str:
    """JPEGs with their captions, as many in a row as fit."""
    figures = [
        f'<figure><img src="data:image/jpeg;base64,{b64encode(content).decode()}" alt="{escape(alt)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for content, caption in pictures
    ]
    return f'<div class="um-crops">{"".join(figures)}</div>'


def fact_rows(result: AnalysisResult) -> list[tuple[str, str]]:
    """The media as decoded, what the analysis cost, content credentials, what the file says: names and values,
    unescaped."""
    rows = [*decoded(result), (FACTS["credentials"], credentials_words(result.provenance))]
    return [*rows, *((BY_THE_FILE.format(name=name), text) for name, text in told_by_the_file(result))]


def facts(result: AnalysisResult) -> str:
    """`fact_rows` as a list."""
    return definitions(fact_rows(result))


def told_by_the_file(result: AnalysisResult) -> list[tuple[str, str]]:
    """EXIF or the container's tags; anyone can write them."""
    return [(METADATA.get(name, name.capitalize()), text) for name, text in result.media.metadata.items()]


def decoded(result: AnalysisResult) -> list[tuple[str, str]]:
    """The media as decoded, and what the analysis cost."""
    media = result.media
    container, codec = container_words(media.container), codec_words(media.codec)
    kind = (FACT_KIND_CODEC if codec != container else FACT_KIND).format(
        kind=MEDIA_KINDS.get(media.kind, media.kind), container=container, codec=codec
    )
    rows: list[tuple[str, str]] = [(FACTS["kind"], kind)]
    if media.width and media.height:
        rows.append((FACTS["size"], FACT_SIZE.format(width=media.width, height=media.height)))
    if media.duration_s:
        length = clock(media.duration_s)
        rows.append((FACTS["length"], FACT_LENGTH_RATE.format(length=length, rate=media.fps) if media.fps else length))
    rows += [
        (FACTS["frames"], f"{media.frames_analysed:,}"),
        (FACTS["people"], str(len(result.faces))),
        (FACTS["took"], FACT_TOOK.format(seconds=sum(result.timings.values()))),
        (FACTS["sha256"], media.sha256),
    ]
    return rows


def notice_lines(result: AnalysisResult) -> list[str]:
    """What a reader must know before trusting the verdict, in sentences, unescaped."""
    lines = [_sentence(notice.message) for notice in result.warnings]
    face = deciding_face(result)
    if face and face.quality:
        lines.append(DECIDING_FACE.format(quality=", ".join(quality_words(face))))
    return lines + (measure_words(face) if face else [])


def notices(result: AnalysisResult) -> str:
    """`notice_lines` as a list; empty where there is nothing."""
    lines = notice_lines(result)
    if not lines:
        return ""
    return f'<ul class="um-notices">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>'
