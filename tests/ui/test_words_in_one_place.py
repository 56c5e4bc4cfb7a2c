"""What people read stands in the words modules alone, so that a translation replaces these and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from literals import Literal, literals, template_literals

UI = Path(__file__).parents[2] / "ui"
WORDS = {
    "words.py", "operator_words.py", "evaluation_words.py", "training_words.py", "report_words.py", "gradio_texts.py",
    "dashboard/texts.py",
}  # fmt: skip
BEHIND = {
    "bench.py", "children.py", "cli.py", "client.py", "contact_sheet.py", "demo.py", "detector_pages.py", "doctor.py",
    "ending.py", "errors.py", "evaluation.py", "listing.py", "prepare.py", "recipe_check.py", "report_verify.py",
    "reproduce.py", "scan.py", "synth.py", "synth_faces.py", "synth_work.py", "tokens_commands.py", "training_jobs.py",
    "training_log.py", "weights_commands.py",
}  # fmt: skip
"""The command line, and what pages and commands have in common: what they refuse is said where it is refused."""
EXCEPTIONS = {
    ("axes.py", "diamond hollow"): "classes of CSS",
    ("axes.py", "diamond together"): "classes of CSS",
    ("cards.py", "not checked"): "a status of the result; its words are in CREDENTIALS",
    ("dashboard/browser.py", "_FIGURE"): "a script",
    ("dashboard/browser.py", "_PASTE"): "a script",
    ("dashboard/browser.py", "_SEEK"): "a script",
    ("gradio_demo.py", "CSS"): "a style",
    ("gradio_demo.py", "main"): "a command: its options and what it prints",
    ("gradio_limits.py", "ask_password"): "a command: asked in a terminal",
    ("gradio_pairs.py", "top center"): "a place, in plotly's words",
    ("media_signs.py", "EDITORS"): "names of programs, as they write them into files",
    ("plots.py", "FONT"): "names of fonts",
    ("report.py", "form_of"): "a command: what --report refuses",
    ("report.py", "_line_styles"): "a style",
}
"""By file and constant, function or string."""


def front_ends() -> list[str]:
    """Every module of ui that is not known to hold words, or to be none of a front-end."""
    found = {str(path.relative_to(UI)) for folder in (UI, UI / "dashboard") for path in folder.glob("*.py")}
    missing = (WORDS | BEHIND) - found
    assert not missing, f"these are gone: {missing}"
    return sorted(found - WORDS - BEHIND)


def excepted(file: str, one: Literal) -> bool:
    return (file, one.within) in EXCEPTIONS or (file, one.text) in EXCEPTIONS


def test_no_module_of_the_front_ends_says_anything_of_its_own() -> None:
    found = {file: literals((UI / file).read_text(encoding="utf-8")) for file in front_ends()}
    told = [f"ui/{file}:{one.line}: {one.text!r}" for file, all_ in found.items() for one in all_
            if not excepted(file, one)]  # fmt: skip
    assert not told, "\n".join(["these belong into a words module:", *told])


def test_the_page_of_a_report_says_nothing_of_its_own() -> None:
    told = [f"ui/{path.name}:{one.line}: {one.text!r}" for path in sorted(UI.glob("*.html"))
            for one in template_literals(path.read_text(encoding="utf-8"))]  # fmt: skip
    assert not told, "\n".join(["these belong into ui/report_words.py:", *told])


def test_every_exception_is_still_there() -> None:
    needed = set()
    for file in {file for file, _ in EXCEPTIONS}:
        for one in literals((UI / file).read_text(encoding="utf-8")):
            needed |= {(file, one.within), (file, one.text)}
    assert set(EXCEPTIONS) <= needed


@pytest.mark.parametrize(
    "source",
    [
        "NOTE = 'Nothing was found.'",
        "def f(): return f'{count} files'",
        "def f(): return f'{when}score {score}'",
        "NOTE = '{count} of {total}'",
        "NOTE = '<p class=\"um-small\">None yet.</p>'",
        'NOTE = f\'<div role="img" aria-label="score {score}"></div>\'',
        "def f(): return f\"<p>{'Not yet' if late else ''}</p>\"",
        "raise UsageError('no such file', 'name another')",
        "st.button('Stop', icon=':material/stop:')",
        "left.text_input(NAME, help='Optional')",
        "st.button('Stop' if running else 'Start')",
        "st.html(f'<h4>Measured</h4>{figures}')",
        "st.plotly_chart(figure, alt=f'Scores: {scores}')",
        "gr.Tab('Video')",
        "go.Scatter(x=x, y=y, name='training')",
        "figure.update_xaxes(title={'text': 'epoch'})",
        "tiles([('Waiting', str(count), more)])",
    ],
)
def test_words_are_found(source: str) -> None:
    assert {one.line for one in literals(source)} == {1}


@pytest.mark.parametrize(
    "source",
    [
        '"""What this is for."""',
        "X = 1\n'''Seconds between two looks.'''",
        "def f() -> str:\n    'Says nothing of its own.'\n    return ''",
        "st.button(texts.STOP, icon=':material/stop:', key=f'stop-{one.id}', type='primary')",
        'st.html(f\'<p class="um-small um-none" style="left:{low:.2%};width:{high:.2%}">{told}</p>\')',
        "st.space('small')",
        "raise ValueError(f'no such kind: {kind}')",
        "STATES = {'queued': QUEUED, 'running': RUNNING}",
        "PATH = f'<path d=\"M{x} {y}H{width}\"/>'",
        "go.Scatter(x=x, y=y, name=name, mode='lines', hovertemplate=f'{name} %{{y:.4f}}<extra></extra>')",
        "parser.add_argument('--port', help='where it listens')",
        "moment.strftime('%Y-%m-%d %H:%M UTC')",
    ],
)
def test_what_nobody_reads_is_passed_over(source: str) -> None:
    assert literals(source) == []


def test_words_in_a_template_are_found_and_what_is_filled_in_is_not() -> None:
    page = (
        '<style>\nh1 { margin: 0 }\n</style>\n<h1 class="um-lead">{{ words.TITLE }}</h1>\n<p>{{ count }} files</p>\n'
        '<i aria-label="scores of {{ name }}"></i>\n{% for one in items %}{{ one ~ "s" }}{% endfor %}\n'
    )
    assert [one.line for one in template_literals(page)] == [5, 6, 7]
