"""Strings of a module that read as words for people: what belongs into a words module instead."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

FIELD = "\N{REPLACEMENT CHARACTER}"
"""Stands for what an f-string, str.format or a template fills in."""
FILLED_IN = re.compile(r"%?\{\w*(?:[!:][^{}]*)?\}")
"""Of str.format, and with a % of plotly."""
SPOKEN = re.compile(r"""(?:aria-label|alt|title|placeholder)=(?:"([^"]*)"|'([^']*)')""")
"""Attributes that people read or hear; all others are for the browser."""
MARKUP = re.compile(r"""<[^<>]*>|<[^<>]*$|^[^<>]*">|[\w-]+=(?:"[^"]*"|'[^']*')|&#?\w+;""")
WORD = re.compile(r"[^\W\d_]+(?:['’/-][^\W\d_]+)*")
AROUND = ".,;:!?()[]“”\"'`*…·"
WIDGETS = {
    "button", "caption", "checkbox", "code", "download_button", "error", "expander", "file_uploader",
    "form_submit_button", "header", "heading", "html", "info", "markdown", "metric", "multiselect", "number_input",
    "pills", "popover", "radio", "segmented_control", "selectbox", "slider", "spinner", "subheader", "success",
    "text_area", "text_input", "title", "toggle", "warning", "write",
    "bullet", "error_card", "section", "table", "tiles", "trouble", "words",
}  # fmt: skip
"""Functions that show their first argument: Streamlit's, on a column or a container too, and unmask's."""
LABELS = {
    "alt", "alt_text", "auth_message", "caption", "help", "hovertemplate", "hovertext", "label", "page_title",
    "placeholder", "text", "ticktext", "title",
}  # fmt: skip
NO_LABEL = {"columns", "container", "form", "get_option", "iframe", "space"}
"""Functions of Streamlit whose first argument is no text."""


class Literal(NamedTuple):
    """A string for people, and the constant, function or class of the module that holds it."""

    line: int
    text: str
    within: str


def literals(source: str) -> list[Literal]:
    """Those of a module, in their order; none of docstrings, of Python's own errors and of a command's options."""
    found = {}
    for statement in ast.parse(source).body:
        for node in _strings(statement):
            text = _text(node)
            if reads_as_words(text):
                found[node.lineno, node.col_offset] = Literal(node.lineno, text, _name(statement))
        for node in _labels(statement):
            text = _text(node)
            if _letters(text):
                found[node.lineno, node.col_offset] = Literal(node.lineno, text, _name(statement))
    return [found[place] for place in sorted(found)]


def template_literals(source: str) -> list[Literal]:
    """Those of a Jinja template, line by line: any letter outside tags, styles, scripts and what is filled in."""
    blank = re.compile(r"<style>.*?</style>|<script.*?</script>", re.DOTALL)
    source = blank.sub(lambda match: "\n" * match[0].count("\n"), source)
    found = []
    for number, line in enumerate(source.splitlines(), 1):
        written = " ".join(re.findall(r'"([^"]*)"', " ".join(re.findall(r"\{\{.*?\}\}", line))))
        line = re.sub(r"\{%.*?%\}", "", re.sub(r"\{\{.*?\}\}", FIELD, line))
        for text in (written, *_read(line)):
            if WORD.search(text):
                found.append(Literal(number, text.strip(), ""))
    return found


def reads_as_words(text: str) -> bool:
    """Two words, or one beside what is filled in, with a space between."""
    return any(_has_pair(part) for part in _read(text))


def _read(text: str) -> list[str]:
    """What people read of HTML or plain text: attributes with words, and the text between tags."""
    spoken = [first or second for first, second in SPOKEN.findall(text)]
    return [*spoken, MARKUP.sub(" ", text)]


def _has_pair(text: str) -> bool:
    parts = [re.split(f"({FIELD})", token) for token in text.split()]
    return any(_pair(_atom(left, -1), _atom(right, 0)) for left, right in pairwise(parts))


def _atom(parts: list[str], end: int) -> str:
    """What a token begins or ends with: a field, a word, or ""."""
    there = [part.strip(AROUND) for part in parts if part.strip(AROUND)]
    last = there[end] if there else ""
    return last if last == FIELD or (WORD.fullmatch(last) and not last.startswith("um-")) else ""


def _pair(left: str, right: str) -> bool:
    words = [one for one in (left, right) if one != FIELD]
    return bool(left and right and words) and max(map(len, words)) > 1


def _letters(text: str) -> bool:
    return any(WORD.search(part) for part in _read(text)) and text != "unmask"


def _strings(top: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """Every string below; an f-string is one, not its pieces."""
    if _is_elsewhere(top):
        return
    for node in ast.iter_child_nodes(top):
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str) and not isinstance(top, ast.Expr):
                yield node
        elif isinstance(node, ast.JoinedStr):
            yield node
            for value in node.values:
                if isinstance(value, ast.FormattedValue):
                    yield from _strings(value)
        else:
            yield from _strings(node)


def _is_elsewhere(node: ast.AST) -> bool:
    """Errors of Python itself are for programmers; a command's options are argparse's to say."""
    made = node.exc if isinstance(node, ast.Raise) else None
    if isinstance(made, ast.Call):
        return hasattr(builtins, _called(made.func)[0])
    return isinstance(node, ast.Call) and _called(node.func)[0] == "add_argument"


def _labels(top: ast.AST) -> Iterator[ast.Constant | ast.JoinedStr]:
    """What calls below show: the first argument of a widget, and arguments that are called as labels are."""
    for call in ast.walk(top):
        if not isinstance(call, ast.Call) or _is_elsewhere(call):
            continue
        name, of = _called(call.func)
        if call.args and (name in WIDGETS or (of in ("st", "gr") and name not in NO_LABEL)):
            yield from _shown(call.args[0])
        names = {*LABELS, "name"} if of == "go" or name.startswith("add_") else LABELS
        for keyword in call.keywords:
            if keyword.arg in names:
                yield from _shown(keyword.value)


def _called(func: ast.expr) -> tuple[str, str]:
    """A function's name, and that of the module or object it is called on."""
    if isinstance(func, ast.Attribute):
        return func.attr, func.value.id if isinstance(func.value, ast.Name) else ""
    return (func.id if isinstance(func, ast.Name) else ""), ""


def _shown(node: ast.expr) -> Iterator[ast.Constant | ast.JoinedStr]:
    """The literals that an argument may turn out to be, or is a list of."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node
    elif isinstance(node, ast.JoinedStr):
        yield node
        for value in node.values:
            if isinstance(value, ast.FormattedValue):
                yield from _shown(value.value)
    elif isinstance(node, ast.Dict):
        for key, inner in zip(node.keys, node.values, strict=True):
            if isinstance(key, ast.Constant) and key.value == "text":
                yield from _shown(inner)
    elif isinstance(node, (ast.IfExp, ast.BoolOp, ast.BinOp, ast.List, ast.Tuple)):
        for below in _choices(node):
            yield from _shown(below)


def _choices(node: ast.IfExp | ast.BoolOp | ast.BinOp | ast.List | ast.Tuple) -> list[ast.expr]:
    if isinstance(node, ast.IfExp):
        return [node.body, node.orelse]
    if isinstance(node, ast.BinOp):
        return [node.left, node.right]
    return node.values if isinstance(node, ast.BoolOp) else node.elts


def _text(node: ast.Constant | ast.JoinedStr) -> str:
    parts = [node] if isinstance(node, ast.Constant) else node.values
    text = "".join(str(part.value) if isinstance(part, ast.Constant) else FIELD for part in parts)
    return FILLED_IN.sub(FIELD, text)


def _name(statement: ast.stmt) -> str:
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        return statement.name
    if isinstance(statement, ast.Assign):
        return ast.unparse(statement.targets[0])
    return ast.unparse(statement.target) if isinstance(statement, ast.AnnAssign) else ""
