"""Three things that Streamlit does not do itself and a browser does in a line: pasting files, moving a player, and
showing an SVG whose points can be clicked.

The scripts are ours and fixed. Of a user's nothing reaches them but numbers, and names that the figure has escaped.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import streamlit as st

_PASTE = """
export default function() {
  const paste = (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    const input = document.querySelector('.st-key-files input[type=file]');
    if (!files.length || !input) return;
    event.preventDefault();
    const taken = new DataTransfer();
    files.forEach((file) => taken.items.add(file));
    input.files = taken.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  };
  document.addEventListener('paste', paste);
  return () => document.removeEventListener('paste', paste);
}
"""
_SEEK = """
export default function({ data }) {
  if (data.moment === window.unmaskMoment) return;
  window.unmaskMoment = data.moment;
  const until = performance.now() + 3000;
  let moved = null;
  const look = () => {  // the player may be drawn after this, or anew
    if (data.moment !== window.unmaskMoment) return;
    const video = document.querySelector(`.st-key-${data.player} video`);
    if (video && video !== moved) {
      moved = video;
      const go = () => { video.pause(); video.currentTime = data.time; };
      if (video.readyState > 0) go(); else video.addEventListener('loadedmetadata', go, { once: true });
    }
    if (performance.now() < until) setTimeout(look, 100);
  };
  look();
}
"""
_FIGURE = """
export default function({ data, parentElement, setTriggerValue }) {
  let place = parentElement.querySelector('.um-figure');
  if (!place) {
    place = document.createElement('div');
    place.className = 'um-figure';
    parentElement.appendChild(place);
  }
  if (place.unmaskDrawn !== data) place.innerHTML = place.unmaskDrawn = data;
  place.onclick = (event) => {
    const point = event.target.closest('[data-at]');
    if (point) setTriggerValue('point', Number(point.dataset.at));
  };
}
"""


BREATH_S = 0.1


def breathe(part: str) -> None:
    """Lets the browser draw what it has before more comes: a whole page in one burst would hold it up. Once for each
    `part` of a session: what is drawn again is there already."""
    drawn: set[str] = st.session_state.setdefault("breathed", set())
    if part not in drawn:
        drawn.add(part)
        time.sleep(BREATH_S)


def take_pasted_files() -> None:
    """From now on what is pasted anywhere on the page goes into the file uploader with the key "files", by the way
    that dropped files take, with its limits. Text is pasted as always."""
    _component("unmask_paste", _PASTE)(key="paste", height=1)


def seek(player: str, time: float, moment: str) -> None:
    """Move the player in the container with that key to `time` in seconds and hold it there; once for each `moment`,
    a name of the click. Streamlit's own start_time takes whole seconds and loads the video anew."""
    data = {"player": player, "time": time, "moment": moment}
    _component("unmask_seek", _SEEK)(data=data, key=f"seek-{player}", height=1)


def figure(drawn: str, key: str, on_click: Callable[[int], None] | None = None) -> None:
    """HTML with SVG of ours, whose texts are escaped: st.html would take the SVG out. `on_click` gets a point's number
    (data-at) at each click."""

    def clicked() -> None:
        number = st.session_state[key].point
        if on_click is not None and isinstance(number, int):
            on_click(number)

    _component("unmask_figure", _FIGURE)(data=drawn, key=key, on_point_change=clicked)


@st.cache_resource(show_spinner=False)
def _component(name: str, script: str) -> st.components.v2.ComponentRenderer:
    return st.components.v2.component(name, js=script, isolate_styles=False)
