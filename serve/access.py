"""Who may do what: tokens with roles, kept as hashes; without any token the API is for this machine alone.

A token is 256 random bits, shown once when it is made (`unmask tokens add NAME`). Roles: a viewer reads its own
analyses, an analyst makes, changes and deletes them, an operator does so with everybody's and sees the service itself.
Analyses belong to the name: a token that replaces another has them too.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import secrets
import time
from collections import defaultdict, deque
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, ValidationError
from starlette.datastructures import Headers

from preprocessing.settings import Strict
from serve.problems import Problem

Role = Literal["viewer", "analyst", "operator"]
ROLES: tuple[Role, ...] = ("viewer", "analyst", "operator")
"""Each may do what those before it may."""
OPEN = ("/healthz", "/readyz")
"""Answered to everyone: probes have no token. They learn what the parts of the graph are called and which answer."""
OPERATORS = ("/metrics", "/v1/operations")
WINDOW_S = 60.0
PREFIX = "um_"


class TokenCard(Strict):
    """A token without itself: `sha256` tells whether another is the same."""

    name: str = Field(min_length=1, max_length=60, pattern=r"^[A-Za-z0-9._@-]+$")
    role: Role = "analyst"
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    created: float
    expires: float | None = None
    per_minute: int = Field(60, ge=1, description="uploads a minute")
    max_bytes: int = Field(20 * 1024**3, ge=0, description="media that are kept at the same time")


class Tokens:
    """The tokens of a file, read again when it changes; every process of the service has its own view of it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._cards: dict[str, TokenCard] = {}

    def cards(self) -> list[TokenCard]:
        """All tokens, by name. Raises ValueError for a damaged file: nobody is let in by mistake."""
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            self._seen, self._cards = None, {}
            return []
        if self._seen != (stat.st_mtime_ns, stat.st_size):
            try:
                cards = [TokenCard.model_validate(one) for one in json.loads(self.path.read_text(encoding="utf-8"))]
            except (ValidationError, ValueError, TypeError) as error:
                raise ValueError(f"{self.path} is damaged: {error}") from error
            self._seen, self._cards = (stat.st_mtime_ns, stat.st_size), {card.sha256: card for card in cards}
        return sorted(self._cards.values(), key=lambda card: card.name)

    def add(
        self, name: str, role: Role, days: float | None = None, per_minute: int = 60, max_bytes: int = 20 * 1024**3
    ) -> str:
        """The new token, which is kept nowhere. Raises ValueError where the name is taken or not possible."""
        cards = self.cards()
        if any(card.name == name for card in cards):
            raise ValueError(f"there is a token {name!r} already: remove it first, or choose another name")
        token = PREFIX + secrets.token_urlsafe(32)
        expires = None if days is None else time.time() + 86400 * days
        made = {"name": name, "role": role, "sha256": _hash(token), "created": time.time(), "expires": expires}
        self._write([*cards, TokenCard.model_validate(made | {"per_minute": per_minute, "max_bytes": max_bytes})])
        return token

    def remove(self, name: str) -> None:
        """Raises ValueError where there is none of that name."""
        cards = self.cards()
        left = [card for card in cards if card.name != name]
        if len(left) == len(cards):
            raise ValueError(f"there is no token {name!r}: there are {', '.join(c.name for c in cards) or 'none'}")
        self._write(left)

    def find(self, token: str) -> TokenCard | None:
        """The card of a token that is valid now."""
        self.cards()
        card = self._cards.get(_hash(token))  # of equal length and uniformly random: no timing tells of a near miss
        return None if card is None or (card.expires is not None and card.expires < time.time()) else card

    def _write(self, cards: list[TokenCard]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        part = self.path.with_name(f"{self.path.name}.{os.getpid()}.part")
        part.touch(0o600)
        part.write_text(json.dumps([card.model_dump() for card in cards], indent=1) + "\n", encoding="utf-8")
        part.replace(self.path)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


@dataclass(frozen=True)
class Caller:
    """Who asks. `name` is "" on a machine without tokens, where everyone is the operator."""

    name: str
    role: Role
    per_minute: int | None = None
    max_bytes: int | None = None

    def may(self, role: Role) -> bool:
        """Whether it has that role or one above."""
        return ROLES.index(self.role) >= ROLES.index(role)

    @property
    def sees(self) -> str | None:
        """Whose analyses: its own, or everybody's (None)."""
        return None if self.role == "operator" else self.name


LOCAL = Caller("", "operator")


class Gate:
    """Lets requests in, or says why not."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens
        self._uploads: dict[str, deque[float]] = defaultdict(deque)

    def caller(self, path: str, method: str, headers: Headers, client: str | None) -> Caller:
        """Who asks. `client` is the address that the connection came from.

        Raises:
            Problem: 401 without a valid token where tokens are used, 403 from elsewhere or to another name where there
                are none, or for what the role may not do.
        """
        if path in OPEN:
            return Caller("", "viewer")
        if not self._tokens.cards():
            if not _on_this_machine(client) or _forwarded(headers):
                raise Problem(403, "tokens_needed", "without tokens this service answers its own machine only",
                              "its operator makes one with `unmask tokens add NAME`")  # fmt: skip
            if not _names_this_machine(headers.get("host", "")):
                # A stranger's page may let its own name lead to 127.0.0.1 and then asks as if it were of this site.
                raise Problem(403, "host", "without tokens this service answers to localhost and 127.0.0.1 only",
                              "ask it by one of these, or let its operator make a token")  # fmt: skip
            return LOCAL
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise Problem(401, "token", "this service asks for a token", "send it as Authorization: Bearer TOKEN",
                          {"WWW-Authenticate": "Bearer"})  # fmt: skip
        card = self._tokens.find(token.strip())
        if card is None:
            raise Problem(401, "token", "the token is unknown, or has run out", "ask the operator for a new one",
                          {"WWW-Authenticate": 'Bearer error="invalid_token"'})  # fmt: skip
        found = Caller(card.name, card.role, card.per_minute, card.max_bytes)
        needed: Role = "viewer" if method in ("GET", "HEAD") else "analyst"
        if path.startswith(OPERATORS):
            needed = "operator"
        if not found.may(needed):
            raise Problem(403, "role", f"that takes the role {needed}, and this token has {found.role}",
                          "ask the operator for a token of that role")  # fmt: skip
        return found

    def upload(self, caller: Caller) -> None:
        """Counts one. Raises Problem 429 with Retry-After where that is more than its token may send in a minute."""
        if caller.per_minute is None:
            return
        recent, now = self._uploads[caller.name], time.monotonic()
        while recent and now - recent[0] > WINDOW_S:
            recent.popleft()
        if len(recent) >= caller.per_minute:
            wait = max(1, round(WINDOW_S - (now - recent[0])))
            raise Problem(429, "rate", f"more than {caller.per_minute} uploads a minute", f"try again in {wait} s",
                          {"Retry-After": str(wait)})  # fmt: skip
        recent.append(now)


def _on_this_machine(client: str | None) -> bool:
    try:
        return client is not None and ipaddress.ip_address(client).is_loopback
    except ValueError:
        return False


def _names_this_machine(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname
    except ValueError:
        return False
    return name == "localhost" or _on_this_machine(name)


def _forwarded(headers: Headers) -> bool:
    """Whether a proxy says that it passes the request on; not every proxy does."""
    return any(name in ("forwarded", "via", "x-real-ip") or name.startswith("x-forwarded-") for name in headers)
