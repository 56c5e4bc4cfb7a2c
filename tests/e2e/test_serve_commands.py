"""What `serve build` writes, `serve run` takes; without tokens it lets no stranger in, whichever command starts it."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import yaml
from deployed import ROOT, Service, wait_for
from ray_head import RAY, Head, end_group, free_ports, running_head

from serve.access import Tokens

pytestmark = [pytest.mark.slow, pytest.mark.e2e]


@contextmanager
def serve_run(head: Head, config: Path, log: Path) -> Iterator[None]:
    """`serve run`, which goes on whatever becomes of the application, until it is ended."""
    command = [str(RAY.with_name("serve")), "run", str(config), "--address", head.address]
    with log.open("wb") as file:
        running = subprocess.Popen(command, env=head.client, cwd=ROOT, stdout=file, stderr=file, start_new_session=True)
    try:
        yield
    finally:
        end_group(running)


def test_serve_build_writes_what_serve_run_takes_and_strangers_are_not_let_in_without_tokens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    (port,) = free_ports(1)
    with (
        running_head(tmp_path / "head.log", cpus=4) as head,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as http,
    ):
        service = Service(head, tmp_path, port, http)
        service.serve("build", "serve.app:app", "-o", str(tmp_path / "built.yaml"))
        built = yaml.safe_load((tmp_path / "built.yaml").read_text())
        assert built["http_options"]["host"] == "0.0.0.0", "what Serve writes itself is open to other machines"
        built["http_options"]["port"] = port
        (tmp_path / "built.yaml").write_text(yaml.safe_dump(built))
        told = tmp_path / "run.log"
        with serve_run(head, tmp_path / "built.yaml", told):
            wait_for(lambda: "unmask tokens add" in told.read_text(), 120, "no word of tokens")
        Tokens(tmp_path / "unmask" / "tokens.json").add("ann", "analyst")
        with serve_run(head, tmp_path / "built.yaml", told):
            wait_for(service.ready, 180, "serve run does not answer")
            assert service.post().status_code == 401
