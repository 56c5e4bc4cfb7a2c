"""The API over a store in a folder, without a graph, for the tests of its routes."""

import io
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient
from hostile import picture
from PIL import Image

from preprocessing.settings import Settings
from serve.gateway import create_app
from serve.services import Services
from serve.settings import GatewayArgs
from serve.storage import Storage
from serve.store import JobStore

HERE = ("127.0.0.1", 50000)
URL = "http://127.0.0.1:8000"


class Api:
    """An app over a store in a folder; nobody takes the jobs, so they stay queued."""

    def __init__(self, folder: Path, args: GatewayArgs, settings: Settings) -> None:
        self.folder = folder
        self.store, self.storage = JobStore(folder / "jobs.sqlite3"), Storage(folder)
        self.notified = 0
        self.parts = {"gateway": True, "runner": True}

        async def detectors() -> list[dict[str, Any]]:
            return [{"name": "mesonet"}, {"name": "lrnet"}]

        async def ready() -> dict[str, bool]:
            return self.parts

        def notify() -> None:
            self.notified += 1

        self.services = Services(self.store, self.storage, args, settings, detectors, ready, notify)
        self.http = TestClient(create_app(self.services), base_url=URL, raise_server_exceptions=False, client=HERE)

    def post(self, content: bytes | None = None, name: str = "face.png", **fields: str) -> Any:
        content = png() if content is None else content
        fields.setdefault("again", "1")
        return self.http.post("/v1/analyses", files={"file": (name, content)}, data=fields)

    def files(self) -> list[str]:
        own = ("jobs.sqlite3", "tokens.json")
        return [p.name for p in self.folder.rglob("*") if p.is_file() and not p.name.startswith(own)]


def png(width: int = 64, height: int = 48) -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture(width, height)).save(out, "PNG")
    return out.getvalue()


def refusal(answer: Any, status: int, code: str) -> str:
    """The words of a refusal of the one shape, without a trace of the program inside."""
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"} and set(answer.json()["error"]) == {"code", "reason", "hint"}
    assert answer.json()["error"]["code"] == code
    assert "Traceback" not in answer.text and ".py" not in answer.text and "/" + "tmp" not in answer.text
    return f"{answer.json()['error']['reason']}; {answer.json()['error']['hint']}"
