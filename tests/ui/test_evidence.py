"""Where the detectors look, as Streamlit draws it: a method's own maps first."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def shown() -> None:
    """A page of nothing but the heatmaps of three detectors, each of another kind."""
    import cv2
    import numpy as np
    from results import detector, face, result

    from detectors.result import Heatmap
    from ui.client import Client
    from ui.dashboard.evidence import show_heatmaps

    class Kept(Client):
        """A service that keeps a grey face and a map of it."""

        def artifact(self, analysis: str, name: str) -> bytes:
            channels = 3 if name.endswith(".jpg") else 1
            picture = np.full((64, 64, channels), 128, np.uint8)
            return bytes(cv2.imencode(name[-4:], picture)[1])

    kinds = {"alpha": "grad-cam", "beta": "landmarks", "gamma": "native", "delta": "something new"}
    scores = {
        name: detector(0.9, heatmaps=[Heatmap(time=0.5, frame=12, score=0.9, crop=f"{name}.jpg", map=f"{name}.png")])
        for name in kinds
    }
    found = face(detectors=scores)
    show_heatmaps(Kept("http://127.0.0.1"), "1" * 32, result(faces=[found]), found, kinds)


def test_a_methods_own_maps_come_before_landmarks_and_grad_cam() -> None:
    app = AppTest.from_function(shown, default_timeout=60).run()
    assert not app.exception, app.exception
    (choice,) = app.get("button_group")
    assert choice.options == ["gamma", "beta", "alpha", "delta"]
    assert choice.value == "gamma"
    drawn = " ".join(str(one.proto.body) for one in app.get("html"))
    assert "heatmap of gamma" in drawn and "its own map" in drawn and "heatmap of alpha" not in drawn


def person() -> None:
    """The evidence of a person whose landmarks move, as a page of nothing else."""
    import io

    import cv2
    import numpy as np
    from results import detector, face, result

    from detectors.result import Heatmap
    from ui.client import Client
    from ui.dashboard.evidence import show_evidence

    class Kept(Client):
        def artifact(self, analysis: str, name: str) -> bytes:
            if not name.endswith(".npz"):
                return bytes(cv2.imencode(name[-4:], np.full((64, 64, 3), 128, np.uint8))[1])
            points = np.random.default_rng(0).integers(0, 400, (3, 68, 2)).astype(np.int16)
            content = io.BytesIO()
            np.savez(content, frames=np.arange(3), times=np.arange(3) / 25, raw=points, calibrated=points)
            return content.getvalue()

    heatmap = Heatmap(time=0.5, frame=12, score=0.9, crop="c.jpg", map="m.png")
    found = face(detectors={"alpha": detector(0.9, heatmaps=[heatmap])}, landmarks="track.npz")
    show_evidence(Kept("http://127.0.0.1"), "2" * 32, result(faces=[found]), found, {})


def test_only_the_evidence_that_is_looked_at_is_drawn() -> None:
    app = AppTest.from_function(person, default_timeout=60).run()
    assert not app.exception, app.exception
    assert [tab.label for tab in app.tabs] == ["Where it looks", "How the landmarks move"], "no reference faces here"
    assert "heatmap of alpha" in " ".join(str(one.proto.body) for one in app.get("html")) and not app.slider[1:]
    app.session_state[f"evidence-{'2' * 32}-0"] = "How the landmarks move"
    app.run()
    assert not app.exception, app.exception
    assert [one.label for one in app.slider] == ["Moment, in seconds"]
    assert "heatmap of alpha" not in " ".join(str(one.proto.body) for one in app.get("html"))
