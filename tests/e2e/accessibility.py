"""axe-core over a page: what is grave in our own content fails; what the frameworks bring is listed here."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe

GRAVE = ("serious", "critical")
FRAMEWORK: dict[str, str] = {}
"""Rules that a framework's own elements break, and why; in our elements they fail all the same."""
OURS = "[class^='um-'], [class*=' um-']"


def violations(page: Any) -> list[str]:
    """Serious and critical findings, a line each: rule, what it means, the element."""
    found = Axe().run(page).response["violations"]
    told = []
    for one in found:
        if one["impact"] not in GRAVE:
            continue
        for node in one["nodes"]:
            selector = node["target"][0] if isinstance(node["target"][0], str) else node["target"][0][0]
            ours = page.evaluate(
                "([s, o]) => { const e = document.querySelector(s); return !!e && !!e.closest(o) }", [selector, OURS]
            )
            if ours or one["id"] not in FRAMEWORK:
                told.append(f"{one['id']}: {one['help']}: {node['html'][:160]}")
    return told


def reached_by_tab(page: Any, presses: int = 60) -> list[str]:
    """What the Tab key reaches from the top, in order: an element's accessible name or its text."""
    page.evaluate("() => document.activeElement && document.activeElement.blur()")
    reached = []
    for _ in range(presses):
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate(
                "() => { const e = document.activeElement; return e ? "
                "(e.getAttribute('aria-label') || e.innerText || e.value || e.id || e.tagName).trim() : '' }"
            )
        )
    return reached
