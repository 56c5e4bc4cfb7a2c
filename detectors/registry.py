"""One registry of detectors. Adding one is a new module in detectors/methods/: nothing else is edited."""

from __future__ import annotations

import difflib
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from detectors.base import Detector, DetectorConfig, Profile


@dataclass(frozen=True)
class Entry:
    """A registered method: its class and the config of each profile."""

    cls: type[Detector]
    profiles: Mapping[Profile, DetectorConfig]


_ENTRIES: dict[str, Entry] = {}


def register(name: str, **profiles: DetectorConfig) -> Callable[[type[Detector]], type[Detector]]:
    """Class decorator: `@register("mesonet", paper=MesoConfig(...), compact=MesoConfig(...))`."""

    def add(cls: type[Detector]) -> type[Detector]:
        if name in _ENTRIES and _ENTRIES[name].cls.__qualname__ != cls.__qualname__:
            raise ValueError(f"two detectors are called {name!r}: {_ENTRIES[name].cls.__module__} and {cls.__module__}")
        if set(profiles) != {"paper", "compact"}:
            raise ValueError(f"detector {name!r} needs exactly the profiles paper and compact, not {sorted(profiles)}")
        cls.name = name
        _ENTRIES[name] = Entry(cls, profiles)  # type: ignore[arg-type]
        return cls

    return add


def _load_all() -> dict[str, Entry]:
    import detectors.methods as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return _ENTRIES


def names() -> list[str]:
    """The registered detectors, sorted."""
    return sorted(_load_all())


def entry(name: str) -> Entry:
    """The registered method; an unknown name is a KeyError-like ValueError that names the near miss."""
    entries = _ENTRIES if name in _ENTRIES else _load_all()
    if name not in entries:
        near = difflib.get_close_matches(name, entries, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(entries))}"
        raise ValueError(f"no detector is called {name!r}: {hint}")
    return entries[name]


def create(name: str, profile: Profile = "compact", config: DetectorConfig | None = None) -> Detector:
    """An untrained network of the method; `config` overrides the profile's. Its weights come from detectors.weights."""
    found = entry(name)
    return found.cls(config or found.profiles[profile])
