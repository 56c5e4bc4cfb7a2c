"""Media from an address that the operator allowed, without becoming a door into the operator's own network."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

import httpx

from serve.problems import Problem
from serve.uploads import SizedFile, check_size, display_name

MAX_REDIRECTS = 3
TOTAL_S = 300.0


def check_address(url: str, hosts: Sequence[str]) -> tuple[str, int]:
    """Host and port of an address that may be fetched. Raises Problem 403 or 422 for any other."""
    if not hosts:
        raise Problem(
            403, "url", "this server fetches no addresses", "upload the file, or let its operator allow the host"
        )
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip(".").lower(), parts.port
    except ValueError:
        raise Problem(422, "url", "this is not an address", "give http:// or https:// and a host") from None
    if parts.scheme not in ("http", "https") or not host:
        raise Problem(422, "url", "this is not an http or https address", "give http:// or https:// and a host")
    if parts.username is not None or parts.password is not None:
        raise Problem(422, "url", "the address carries a user name or password", "leave it out")
    if host not in {allowed.lower() for allowed in hosts}:
        raise Problem(403, "url", f"this server does not fetch from {host}", f"allowed: {', '.join(hosts)}")
    return host, port or (443 if parts.scheme == "https" else 80)


async def resolve(host: str, port: int, private: bool) -> str:
    """One IP address of the host. Raises Problem where any of them is not of the public internet, unless `private`."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        raise Problem(422, "url", f"the host {host} is not known", "check the address") from None
    addresses = [str(entry[4][0]).split("%")[0] for entry in found]
    for address in addresses:
        parsed = ipaddress.ip_address(address)
        parsed = getattr(parsed, "ipv4_mapped", None) or parsed
        if not private and (not parsed.is_global or parsed.is_multicast):
            raise Problem(403, "url", f"{host} leads into a private network", "upload the file instead")
    return addresses[0]


async def fetch(url: str, path: Path, *, hosts: Sequence[str], private: bool, max_bytes: int, stall_s: float) -> str:
    """Download an allowed address to `path`; returns a display name. At most 3 redirects, each checked as the first.

    The connection goes to the very address that was checked, so that a second answer of the name server cannot
    lead elsewhere. Raises Problem, or MediaTooLarge while it streams. The caller removes `path`.
    """
    try:
        async with asyncio.timeout(TOTAL_S), httpx.AsyncClient(timeout=stall_s, trust_env=False) as client:
            for _ in range(MAX_REDIRECTS + 1):
                host, port = check_address(url, hosts)
                address = await resolve(host, port, private)
                following = await _get(client, url, host, address, path, max_bytes)
                if following is None:
                    return display_name(unquote(urlsplit(url).path))
                url = urljoin(url, following)
    except httpx.HTTPError as error:
        raise Problem(422, "url", f"the address could not be fetched ({type(error).__name__})", "check it") from None
    except TimeoutError:
        raise Problem(422, "url", f"the download took more than {TOTAL_S:g} s", "upload the file instead") from None
    raise Problem(422, "url", f"the address leads through more than {MAX_REDIRECTS} others", "give the last one")


async def _get(client: httpx.AsyncClient, url: str, host: str, address: str, path: Path, max_bytes: int) -> str | None:
    """Download from `address` as `host`; returns the Location of a redirect, None when the file is there."""
    parsed = httpx.URL(url)
    request = client.build_request(
        "GET",
        parsed.copy_with(host=address, fragment=None),
        headers={"Host": parsed.netloc.decode("ascii"), "Accept": "image/*, video/*", "Accept-Encoding": "identity"},
        extensions={"sni_hostname": host},
    )
    response = await client.send(request, stream=True, follow_redirects=False)
    try:
        if response.is_redirect:
            return response.headers.get("location", "")
        if response.status_code != 200:
            raise Problem(422, "url", f"{host} answered {response.status_code}", "check the address")
        claimed = response.headers.get("content-length", "")
        if claimed.isdigit():
            check_size(int(claimed), max_bytes)
        with SizedFile(path, max_bytes) as out:
            async for data in response.aiter_raw():
                out.write(data)
        return None
    finally:
        await response.aclose()
