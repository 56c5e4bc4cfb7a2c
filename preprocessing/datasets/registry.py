"""The layouts of known data sets, one module each in preprocessing/datasets/layouts: adding one edits nothing else."""

from __future__ import annotations

import difflib
import importlib
import itertools
import pkgutil
from collections.abc import Callable
from typing import Protocol

from preprocessing.datasets.items import DatasetError, DatasetIndex, Item
from preprocessing.datasets.tree import Tree


class Layout(Protocol):
    """How one data set lies on disk. `title` names it for people; `official_split`: it comes with one."""

    title: str
    official_split: bool

    def evidence(self, tree: Tree) -> str:
        """What in the folder's first levels says that it is this data set; "" where nothing does. Cheap."""
        ...

    def index(self, tree: Tree, official: bool) -> tuple[list[Item], list[str]]:
        """The items and the notes; with `official` the set's own split is read. Raises DatasetError."""
        ...


_LAYOUTS: dict[str, Layout] = {}


def layout(name: str) -> Callable[[type[Layout]], type[Layout]]:
    """Class decorator: `@layout("dfdc")`."""

    def add(cls: type[Layout]) -> type[Layout]:
        known = _LAYOUTS.get(name)
        if known is not None and type(known).__qualname__ != cls.__qualname__:
            raise ValueError(f"two data set layouts are called {name!r}")
        _LAYOUTS[name] = cls()
        return cls

    return add


def _load_all() -> dict[str, Layout]:
    import preprocessing.datasets.layouts as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return _LAYOUTS


def names() -> list[str]:
    """The known layouts, sorted."""
    return sorted(_load_all())


def find_layout(name: str) -> Layout:
    """Raises DatasetError that names the near miss."""
    known = _load_all()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are auto, {', '.join(sorted(known))}"
        raise DatasetError(f"no data set layout is called {name!r}", hint)
    return known[name]


def recognise(tree: Tree) -> dict[str, str]:
    """The evidence of every layout that the folder may be."""
    return {name: found for name, one in sorted(_load_all().items()) if (found := one.evidence(tree))}


def detect(tree: Tree) -> str:
    """The one layout that the folder has.

    Raises DatasetError where it is none (naming a folder above or below that is one), or more than one.
    """
    found = recognise(tree)
    if len(found) == 1:
        return next(iter(found))
    if found:
        listed = "; ".join(f"{name} ({what})" for name, what in found.items())
        raise DatasetError(
            f"{tree.url} may be {len(found)} data sets: {listed}",
            "name the one you mean instead of auto; if two data sets are mixed here, give each a folder of its own",
        )
    raise DatasetError(f"{tree.url} is no data set that is known: {_what_is_there(tree)}", _elsewhere(tree))


def _what_is_there(tree: Tree) -> str:
    folders, files = tree.folders(), tree.names()
    if not folders and not files:
        return "it is empty"
    shown = ", ".join([f"{name}/" for name in folders][:5] + files[:5])
    return f"it holds {shown}{' ...' if len(folders) > 5 or len(files) > 5 else ''}"


def _elsewhere(tree: Tree) -> str:
    """Where the data set may have been meant: up to four levels above, one or two below."""
    near: list[Tree] = []
    above = tree.parent()
    for _ in range(4):
        if above is None:
            break
        near.append(above)
        above = above.parent()
    below = [tree.child(name) for name in tree.folders()[:20]]
    near += below + [one.child(name) for one in below for name in one.folders()[:20]]
    for place in near:
        try:
            found = recognise(place)
        except DatasetError:
            continue
        if len(found) == 1:
            name, what = next(iter(found.items()))
            return f"the folder {place.url} looks like {find_layout(name).title} ({what}): give that one"
    return f"known layouts: {', '.join(names())}; any other set needs folders real/ and fake/, or a MANIFEST.csv"


def index_dataset(name: str, url: str, official: bool = True) -> DatasetIndex:
    """Every item of the data set `name` ("auto" detects it) in the folder `url`, checked against what it should hold.

    Raises DatasetError for a folder that is not this data set, is empty, mixed or swapped, or lacks a file that says
    what is what; what merely is not there is said in the notes.
    """
    tree = Tree.open(url)
    chosen = find_layout(name) if name != "auto" else None
    name = detect(tree) if chosen is None else name
    chosen = chosen or find_layout(name)
    if not chosen.evidence(tree):
        raise DatasetError(f"{tree.url} is not {chosen.title}: {_what_is_there(tree)}", _elsewhere(tree))
    items, notes = chosen.index(tree, official and chosen.official_split)
    if not items:
        raise DatasetError(f"{tree.url} has the folders of {chosen.title} but no video or picture in them", *notes[:1])
    ordered = sorted(items, key=lambda item: item.path)
    for one, other in itertools.pairwise(ordered):
        if one.path == other.path:
            raise DatasetError(f"{one.path} is listed twice")
    return DatasetIndex(name, tree.url, tuple(ordered), tuple(notes))
