"""Files that are either whole or not there, and what identifies one."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def write_text(path: str | Path, text: str) -> Path:
    """Write a file under a temporary name beside it, then rename it; returns its path."""
    path = Path(path)
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    return part.replace(path)


def write_json(path: str | Path, value: Any) -> Path:
    """`write_text` of JSON; numbers that JSON does not know (numpy's) become floats."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=float))


def sha256(path: str | Path) -> str:
    """Checksum of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a folder under a temporary name beside it, then rename it."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write(part)
    part.rename(folder)


def cache_dir() -> Path:
    """Where answers and converted models are kept: $SELF_EMO_CACHE, else the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "self-emo"
    return Path(os.environ.get("SELF_EMO_CACHE", default))
