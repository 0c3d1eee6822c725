"""Files and folders that are either whole or not there, after a kill or a power loss, too; their identity.

Whatever the project commits goes through `commit`: everything that is new is on the disk before it gets its
name, and the name is on the disk before anything else happens.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any


def commit(part: Path, target: Path) -> Path:
    """Give what was written as ``part`` its final name; returns that.

    Args:
        part: a file or a folder, on the same disk as its target.
        target: a file is replaced; a folder of that name must be empty or not be there.
    """
    sync(part)
    part.replace(target)
    _sync_one(target.parent)
    if part.parent != target.parent:
        _sync_one(part.parent)
    return target


def sync(path: Path) -> None:
    """Have a file, or a folder with all that is below it, on the disk."""
    if path.is_dir():
        for folder, _, files in os.walk(path):
            for name in files:
                _sync_one(Path(folder, name))
            _sync_one(Path(folder))
    else:
        _sync_one(path)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not (path.is_dir() and error.errno == errno.EINVAL):  # some network disks cannot sync a folder
            raise
    finally:
        os.close(handle)


def part_of(path: Path) -> Path:
    """The name that a file or a folder has until it is committed; this process's own."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def drop_parts(folder: Path) -> None:
    """Delete what ended processes have left uncommitted below a folder that nobody else writes to."""
    for part in list(folder.rglob("*.part")):
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> Path:
    """Write a file under a temporary name beside it, then commit it; returns its path."""
    path = Path(path)
    part = part_of(path)
    part.write_text(text, encoding="utf-8")
    return commit(part, path)


def write_json(path: str | Path, value: Any) -> Path:
    """`write_text` of JSON; numbers that JSON does not know (numpy's) become floats."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False, default=float))


def sha256(path: str | Path) -> str:
    """Checksum of a file's bytes, in hex."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a folder under a temporary name beside it, then commit it.

    Where the folder has come to be meanwhile, another process has made the very same, and it stays.
    """
    part = part_of(folder)
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    write(part)
    try:
        commit(part, folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(part)


def replace_folder(folder: Path, write: Callable[[Path], Any]) -> None:
    """Let ``write`` fill a folder that then takes the place of the one of that name, if there is one.

    What is there is always whole; a kill between the two renames leaves the older one as ``*.old.*.part``.
    """
    part, old = part_of(folder), folder.with_name(f"{folder.name}.old.{os.getpid()}.part")
    for path in (part, old):
        shutil.rmtree(path, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        write(part)
        if folder.exists():
            folder.replace(old)
        commit(part, folder)
    except BaseException:
        if old.exists() and not folder.exists():
            old.replace(folder)
        raise
    finally:
        for path in (part, old):
            shutil.rmtree(path, ignore_errors=True)


def cache_dir() -> Path:
    """Where answers and converted models are kept: $SELF_EMO_CACHE, else the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "self-emo"
    return Path(os.environ.get("SELF_EMO_CACHE", default))
