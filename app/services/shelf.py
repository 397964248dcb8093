"""The models that the owner of the app launched it with: the only ones that anybody can open, by name."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from app.state import brief
from ptq4dit.storage.official_files import bare_name, is_official_name

ROOT = Path(__file__).resolve().parents[2]  # of the checkout: the process may have been started anywhere
ASSETS = ROOT / "assets"
DEMO = ASSETS / "demo"
MODELS = "PTQ4DIT_MODEL"
OWNER = "PTQ4DIT_OWNER"
SMALL = 4 * 2**20  # bytes of a model's index or config; a larger one is none
_HUB = re.compile(r"[\w.-]+/[\w.-]+")
_QUOTED = re.compile(r"""(['"`])(/[^'"`\n]+)\1""")
_BARE = re.compile(r"""(?<![\w.~:/<-])/(?:[^\s/'"`:;,()<>|]+/)+[^\s'"`:;,()<>|]*""")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A model: its name in the menu and in links, and where it is loaded from.

    source: an absolute path, or a hub id; demo: it ships with the repository.
    """

    name: str
    source: str
    demo: bool = False

    @property
    def folder(self) -> Path | None:
        """Its folder; None for a file and for a hub id."""
        path = Path(self.source)
        return path if path.is_dir() else None

    @property
    def told(self) -> str:
        """Where it is from, as a visitor may read it: never a path of this machine beyond the repository."""
        return told(Path(self.source)) if Path(self.source).exists() else self.source


def entries() -> tuple[Entry, ...]:
    """All models, those of the launch first, then the demo models that ship with the repository."""
    return _entries(os.environ.get(MODELS, ""), os.getcwd())


def names() -> tuple[str, ...]:
    """The models' names in their order."""
    return tuple(entry.name for entry in entries())


def first() -> Entry:
    """The model that the page opens with."""
    return entries()[0]


def entry(name: object) -> Entry:
    """The model of a name. Raises ValueError, naming all, for one that the app was not launched with."""
    for one in entries():
        if one.name == name:
            return one
    raise ValueError(f"model: expected one of {', '.join(names())}; got {brief(name)}")


def is_owner() -> bool:
    """Whether whoever sees the page launched it: by hand, for this machine alone."""
    return os.environ.get(OWNER) == "1"


def sources(text: str) -> list[str]:
    """What a value of PTQ4DIT_MODEL names: one model, or several with a line or `os.pathsep` between them."""
    parts = text.splitlines() if "\n" in text or Path(text).exists() else text.split(os.pathsep)
    return [part.strip() for part in parts if part.strip()]


def located(source: str) -> str:
    """A model's absolute path, found below where the process was started, the checkout or assets; else a hub id.

    Raises ValueError for what is neither.
    """
    for base in (Path.cwd(), ROOT, ASSETS):
        if (base / source).exists():
            return str((base / source).resolve())
    if not _HUB.fullmatch(source) or is_official_name(source):
        raise ValueError(
            "model: expected a folder, an official .pt file, or a hub id such as facebook/DiT-XL-2-256; got "
            f"{source!r}, which is not there"
        )
    return source


def told(path: Path) -> str:
    """A path as a visitor may read it: from the repository's root on, or the file's name alone."""
    absolute = path.resolve()
    return absolute.relative_to(ROOT).as_posix() if absolute.is_relative_to(ROOT) else path.name


def without_paths(text: str) -> str:
    """A sentence as a visitor may read it: of every absolute path what `told` says; the app's owner reads all."""
    if is_owner():
        return text
    quoted = _QUOTED.sub(lambda found: found[1] + told(Path(found[2])) + found[1], text)
    return _BARE.sub(lambda found: told(Path(found[0])), quoted)


@lru_cache(maxsize=4)
def _entries(asked: str, _here: str) -> tuple[Entry, ...]:
    demos = [str(index.parent) for index in sorted(ASSETS.glob("*/model_index.json"), key=_demo_first)]
    chosen = dict.fromkeys([*map(_found, sources(asked)), *demos])
    taken: dict[str, str] = {}
    for source in chosen:
        name = _short(source)
        while name in taken:
            name = f"{name[:60]}-{sum(other.startswith(name) for other in taken) + 1}"
        taken[name] = source
    return tuple(Entry(name=name, source=source, demo=source in demos) for name, source in taken.items())


def _found(source: str) -> str:
    """A source as it is located; one that is not there stays as it was named, and says so when it is opened."""
    try:
        return located(source)
    except ValueError:
        return source


def _demo_first(index: Path) -> tuple[bool, str]:
    return index.parent != DEMO, index.parent.name


def _short(source: str) -> str:
    """A name as `Selection` takes it: that of the folder, file or repository."""
    return re.sub(r"[^\w.-]", "-", bare_name(source))[:64] or "model"


def index_of(source: str) -> dict[str, Any]:
    """What a pipeline folder's, or a fetched repository's, model_index.json says; nothing where there is none yet."""
    return _said(source, "model_index.json")


def config_of(source: str) -> dict[str, Any]:
    """What the transformer's config says; nothing where there is none yet."""
    return _said(source, "transformer/config.json")


def _said(source: str, name: str) -> dict[str, Any]:
    """A stranger's JSON object; nothing where there is none, or what is there is too large or damaged."""
    from ptq4dit.storage.strict_json import read_strict_json

    folder = Path(source)
    file: Path | None = folder / name if folder.exists() else _fetched(source, name)
    try:
        content = read_strict_json(file, infinities=True, largest=SMALL) if file and file.is_file() else {}
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def _fetched(repository: str, name: str) -> Path | None:
    """A file of a hub repository, where it has been fetched; nothing is asked of the network."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, name) if _HUB.fullmatch(repository) else None
    return Path(found) if isinstance(found, str) else None
