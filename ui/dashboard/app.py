"""The Streamlit dashboard: `streamlit run app.py`, the API's address in UNMASK_API. Started by `unmask ui`."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from ui.cards import STYLE
from ui.dashboard import analyse_page, detectors_page

st.set_page_config(page_title="unmask", page_icon="🎭", layout="wide")
st.logo(str(Path(__file__).parent / "logo.svg"), size="large")
st.html(f"<style>{STYLE}{(Path(__file__).parent / 'page.css').read_text(encoding='utf-8')}</style>")
pages = [
    st.Page(analyse_page.show, title="Analyse", url_path="analyse", default=True),
    st.Page(detectors_page.show, title="Detectors", url_path="detectors"),
]
st.navigation(pages, position="top").run()
