"""Media by address: only from hosts that the operator named, never into a private network, never over the limit."""

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from preprocessing.errors import MediaTooLarge
from serve.fetch import check_address, fetch, resolve
from serve.problems import Problem


class Pages(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        port = self.server.server_address[1]
        moves = {
            "/moved": "/face.png",
            "/inside": f"http://localhost:{port}/face.png",
            "/round": "/round",
            "/file": "file:///etc/passwd",
        }
        if self.path in moves:
            self.send_response(302)
            self.send_header("Location", moves[self.path])
            self.end_headers()
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"x" * 65536)
            except OSError:
                pass
        elif self.path in ("/face.png", "/a%20b.png?size=1"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"content of " + self.headers["Host"].encode())
        else:
            self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pages)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


def get(url: str, folder: Path, hosts: tuple[str, ...] = ("127.0.0.1",), private: bool = True) -> str:
    return asyncio.run(fetch(url, folder / "part", hosts=hosts, private=private, max_bytes=10**6, stall_s=5))


def refused(url: str, folder: Path, **more: object) -> Problem:
    with pytest.raises(Problem) as caught:
        get(url, folder, **more)  # type: ignore[arg-type]
    return caught.value


def test_an_allowed_address_is_fetched_and_named_after_its_path(site: str, tmp_path: Path) -> None:
    assert get(f"{site}/a%20b.png?size=1", tmp_path) == "a b.png"
    assert (tmp_path / "part").read_bytes() == b"content of " + site.removeprefix("http://").encode()


def test_a_redirect_is_followed_where_it_leads_to_an_allowed_host(site: str, tmp_path: Path) -> None:
    assert get(f"{site}/moved", tmp_path) == "face.png"


def test_a_redirect_to_another_host_or_scheme_is_refused_unasked(site: str, tmp_path: Path) -> None:
    Pages.asked.clear()
    assert refused(f"{site}/inside", tmp_path).status == 403
    assert refused(f"{site}/file", tmp_path).status == 422
    assert Pages.asked == ["/inside", "/file"]


def test_redirects_end(site: str, tmp_path: Path) -> None:
    assert "more than 3" in refused(f"{site}/round", tmp_path).reason


def test_an_allowed_name_that_leads_into_the_own_network_is_refused(site: str, tmp_path: Path) -> None:
    Pages.asked.clear()
    problem = refused(f"{site}/face.png", tmp_path, private=False)
    assert problem.status == 403 and "private network" in problem.reason
    assert not Pages.asked and not (tmp_path / "part").exists()


def test_the_limit_holds_while_it_streams(site: str, tmp_path: Path) -> None:
    with pytest.raises(MediaTooLarge):
        get(f"{site}/endless", tmp_path)
    assert (tmp_path / "part").stat().st_size <= 10**6


def test_answers_that_are_no_file_are_named(site: str, tmp_path: Path) -> None:
    assert "404" in refused(f"{site}/missing", tmp_path).reason
    assert "could not be fetched" in refused("http://127.0.0.1:9/face.png", tmp_path).reason


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("file:///etc/passwd", 422), ("ftp://media.example/x", 422), ("media.example/x", 422), ("http://", 422),
        ("http://[::1", 422), ("http://media.example:99999/", 422), ("http://user:word@media.example/", 422),
        ("http://other.example/", 403), ("http://media.example.other.example/", 403), ("http://2130706433/", 403),
        ("http://media.example@other.example/", 422), ("http://127.0.0.1/", 403), ("gopher://media.example/", 422),
    ],
)  # fmt: skip
def test_addresses_outside_the_list_are_refused(url: str, status: int) -> None:
    with pytest.raises(Problem) as caught:
        check_address(url, ["media.example"])
    assert caught.value.status == status


def test_names_are_compared_without_case_and_final_dot() -> None:
    assert check_address("HTTPS://Media.Example./x", ["media.example"]) == ("media.example", 443)
    with pytest.raises(Problem, match="fetches no addresses"):
        check_address("https://media.example/", [])


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "192.168.0.1", "172.16.0.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
     "::1", "::", "fe80::1", "fd00::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1"],
)  # fmt: skip
def test_private_addresses_are_told_from_public_ones(address: str) -> None:
    with pytest.raises(Problem, match="private network"):
        asyncio.run(resolve(address, 80, private=False))
    assert asyncio.run(resolve(address, 80, private=True)) == address
    assert asyncio.run(resolve("8.8.8.8", 80, private=False)) == "8.8.8.8"
