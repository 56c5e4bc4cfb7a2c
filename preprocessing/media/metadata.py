"""What a file says of its own making, as plain text: EXIF of images, tags of containers. Anyone can write these."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

MAX_CHARS = 200
FACTS = ("camera", "software", "taken", "author", "copyright", "description", "location")
"""What is told, in this order; of a place only that there is one."""
_EXIF = {
    "software": (0x0131,), "taken": (0x0132,), "author": (0x013B,), "copyright": (0x8298,), "description": (0x010E,),
}  # fmt: skip
_MAKE, _MODEL, _GPS = 0x010F, 0x0110, 0x8825
"""Tags of TIFF 6.0 that EXIF (CIPA DC-008) uses."""
_TAGS = {
    "software": ("com.apple.quicktime.software", "software", "encoder"),
    "taken": ("com.apple.quicktime.creationdate", "creation_time", "date"),
    "author": ("com.apple.quicktime.author", "artist", "author"),
    "copyright": ("copyright",),
    "description": ("title", "description", "comment"),
    "location": ("com.apple.quicktime.location.iso6709", "location"),
}


def exif_facts(exif: Mapping[int, Any]) -> dict[str, str]:
    """Of an image's EXIF by tag number."""
    found = _facts(_EXIF, lambda tag: exif.get(int(tag)))
    camera = " ".join(plain(exif[tag]) for tag in (_MAKE, _MODEL) if tag in exif)
    return _ordered(found | ({"camera": camera} if camera else {}) | ({"location": "recorded"} if _GPS in exif else {}))


def container_facts(tags: Mapping[str, str]) -> dict[str, str]:
    """Of a video's tags, whatever the case of their names."""
    lower = {key.lower(): value for key, value in tags.items()}
    found = _facts(_TAGS, lambda tag: lower.get(str(tag)))
    makes = [lower.get(f"com.apple.quicktime.{part}") or lower.get(part) for part in ("make", "model")]
    camera = " ".join(plain(one) for one in makes if one)
    if "location" in found:
        found["location"] = "recorded"
    return _ordered(found | ({"camera": camera} if camera else {}))


def checked(given: Any) -> dict[str, str]:
    """What the confined process said, held to the form that it must have: it may be the file that speaks."""
    if not isinstance(given, dict):
        return {}
    return {name: plain(given[name]) for name in FACTS if plain(given.get(name, ""))}


def plain(value: Any) -> str:
    """Text on one line, without control characters, of at most MAX_CHARS."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    text = " ".join("".join(char if char.isprintable() else " " for char in text[: 4 * MAX_CHARS]).split())
    return text if len(text) <= MAX_CHARS else f"{text[: MAX_CHARS - 1]}…"


def _facts(names: Mapping[str, tuple[Any, ...]], get: Callable[[Any], Any]) -> dict[str, str]:
    found = {}
    for fact, tags in names.items():
        if text := next((plain(value) for tag in tags if (value := get(tag)) is not None and plain(value)), ""):
            found[fact] = text
    return found


def _ordered(found: dict[str, str]) -> dict[str, str]:
    return {name: found[name] for name in FACTS if found.get(name)}
