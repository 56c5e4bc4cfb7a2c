"""The Streamlit dashboard: `streamlit run app.py`, the API's address in UNMASK_API. Started by `unmask ui`."""

from __future__ import annotations

import gc
from pathlib import Path

import streamlit as st

from ui.cards import STYLE
from ui.dashboard import analyse_page, compare_page, history_page, operator_pages, session, texts


@st.cache_resource(show_spinner=False)
def leave_modules_alone() -> None:
    """Streamlit collects all garbage after every run of a page, which grows with all that is loaded: what the modules
    hold is from now on not looked through."""
    gc.collect()
    gc.freeze()


leave_modules_alone()
st.set_page_config(page_title="unmask", page_icon="🎭", layout="wide")
st.logo(str(Path(__file__).parent / "logo.svg"), size="large")
here = Path(__file__).parent
sheets = "".join((here / name).read_text(encoding="utf-8") for name in ("page.css", "operator.css"))
st.html(f"<style>{STYLE}{sheets}</style>")
pages = [
    st.Page(analyse_page.show, title=texts.ANALYSE, url_path="analyse", default=True),
    st.Page(compare_page.show, title=texts.COMPARE, url_path="compare"),
    st.Page(history_page.show, title=texts.HISTORY, url_path="history"),
    *operator_pages.pages(),
]
chosen = st.navigation(pages, position="top")
if session.signed_in():
    chosen.run()
