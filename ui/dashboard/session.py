"""Who looks at the dashboard: each browser session signs in for itself, where the API asks for tokens."""

from __future__ import annotations

import os

import streamlit as st

from ui.cards import error_card
from ui.client import DEFAULT_API, ApiError, Client
from ui.operator_words import NOT_LET_IN, SIGN_IN, SIGN_OUT, YOUR_TOKEN, YOUR_TOKEN_HELP

TOKEN_CODES = ("token", "tokens_needed")
"""What the API answers to those that it does not know."""


@st.cache_resource(max_entries=256, show_spinner=False)
def _client(api: str, token: str) -> Client:
    """One connection pool for all sessions of a token."""
    return Client(api, token=token)


def token() -> str:
    """This session's; by default the one that the dashboard was started with."""
    return str(st.session_state.get("token") or os.environ.get("UNMASK_TOKEN", ""))


def api() -> Client:
    """The client of the API that this dashboard was started for, with this session's token."""
    return _client(os.environ.get("UNMASK_API", DEFAULT_API), token())


def signed_in() -> bool:
    """Whether the API lets this session in; where not, the page asks for a token. An API that does not answer says so
    on the pages themselves."""
    if not st.session_state.get("let_in"):
        try:
            api().analyses()
        except ApiError as error:
            if error.code in TOKEN_CODES:
                _ask(error)
                return False
        else:
            st.session_state["let_in"] = True
    if st.session_state.get("token"):
        with st.sidebar:
            st.button(SIGN_OUT, icon=":material/logout:", on_click=_sign_out)
    return True


def _ask(error: ApiError) -> None:
    st.title(SIGN_IN)
    if st.session_state.get("token"):
        st.html(error_card(NOT_LET_IN, error.reason, error.hint))
    token_form()


def token_form() -> None:
    """Asks for a token, and goes on with it."""
    with st.form("sign-in"):
        given = st.text_input(YOUR_TOKEN, type="password", help=YOUR_TOKEN_HELP)
        if st.form_submit_button(SIGN_IN, type="primary") and given.strip():
            st.session_state["token"] = given.strip()
            st.rerun()


def _sign_out() -> None:
    for key in list(st.session_state):
        del st.session_state[key]
