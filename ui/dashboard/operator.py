"""The operator's pages let in whom the API calls an operator; what they start is checked again when it is started."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from typing import Any

import streamlit as st

from ui.client import ApiError
from ui.dashboard import session
from ui.errors import UsageError
from ui.operator_cards import sentence, trouble
from ui.operator_words import (
    NEEDS_OPERATOR,
    NEEDS_OPERATOR_HINT,
    NEEDS_OPERATOR_WHY,
    NEEDS_OWN_TOKEN_WHY,
    THE_API,
)

MENU_S = 30.0


def let_in() -> bool:
    """Whether this session is an operator's; where not, the page says what it takes."""
    try:
        refused = refusal()
    except ApiError as error:
        st.html(trouble(THE_API, error.reason, error.hint))
        return False
    if refused:
        st.html(trouble(NEEDS_OPERATOR, refused, NEEDS_OPERATOR_HINT))
        session.token_form()
    return not refused


def refusal() -> str:
    """Why not, or "". A session's own token speaks for it; without one, only a dashboard of this machine alone takes
    the word of the API, which then sees the dashboard and not the one who looks at it. Raises ApiError."""
    if not st.session_state.get("token") and not on_this_machine():
        return NEEDS_OWN_TOKEN_WHY
    return "" if session.api().caller()["role"] == "operator" else NEEDS_OPERATOR_WHY


def is_operator() -> bool:
    """For the menu, asked once in MENU_S; an API that does not answer hides nothing, the pages say it themselves."""
    token, at, found = st.session_state.get("operator", ("", float("-inf"), True))
    if token != session.token() or time.monotonic() - at > MENU_S:
        try:
            found = not refusal()
        except ApiError:
            found = True
        st.session_state["operator"] = (session.token(), time.monotonic(), found)
    return bool(found)


def on_this_machine() -> bool:
    """Whether nobody but this machine's own people can open the dashboard."""
    forwarded = {name.lower() for name in st.context.headers} & {"forwarded", "x-forwarded-for"}
    return not forwarded and is_loopback(str(st.get_option("server.address") or ""))


def is_loopback(host: str) -> bool:
    """127.0.0.0/8, ::1 or localhost."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def act(do: Callable[[], Any]) -> Any:
    """Do it as the operator; None where that is refused or fails, with the reason on the page."""
    try:
        if why := refusal():
            st.error(f"{NEEDS_OPERATOR}. {why}")
            return None
        return do()
    except (UsageError, ApiError) as error:
        hint = f" {sentence(error.hint)}" if error.hint else ""
        st.error(plain(f"{sentence(error.reason)}{hint}"), icon=":material/error:")
        return None


def plain(text: str) -> str:
    """Text as itself: what Markdown and Streamlit would read in it is told apart."""
    return "".join(f"\\{char}" if char in "\\`*_{}[]()#+-.!|$:<>~" else char for char in text)
