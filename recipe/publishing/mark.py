"""The mark of a published folder: which run and checkpoint it is of, and every file's checksums.

A folder or a repository is only written over if it bears the mark of the same run and holds nothing that
was not published with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from data_prep.files import sha256, write_json
from recipe.run.files import read_json

NAME = "self_emo.json"
_MADE_BY = "SELF-EMO, make publish"
#: Larger files are large files to the hub, which knows them by their SHA-256 and not by git's checksum.
_LARGE = 10 * 2**20


def write(folder: Path, kind: str, run: str, run_id: str, stage: str) -> None:
    """Mark a folder that is otherwise complete.

    Args:
        folder: to be published.
        kind: ``model`` or ``dataset``.
        run, run_id: the run's name and identity.
        stage: the checkpoint that the folder holds or belongs to.
    """
    files = {path.relative_to(folder).as_posix(): _describe(path) for path in files_of(folder)}
    write_json(
        folder / NAME,
        {"made_by": _MADE_BY, "kind": kind, "run": run, "run_id": run_id, "stage": stage, "files": files},
    )


def files_of(folder: Path) -> list[Path]:
    """The files of a published folder, without its mark, in order."""
    return sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / NAME)


def _describe(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    found: dict[str, Any] = {"size": size, "sha256": sha256(path)}
    return found if size > _LARGE else found | {"git": _blob(path.read_bytes())}


def _blob(content: bytes) -> str:
    """Git's name of a file's content, which the hub tells of small files."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def is_of(mark: Any, kind: str, run_id: str) -> TypeGuard[Mapping[str, Any]]:
    """Is it this command's mark on a folder of this kind and run?"""
    return (
        isinstance(mark, Mapping)
        and (mark.get("made_by"), mark.get("kind"), mark.get("run_id")) == (_MADE_BY, kind, run_id)
        and isinstance(mark.get("files"), Mapping)
    )


def differs(mark: Mapping[str, Any], there: Mapping[str, str]) -> list[str]:
    """Files that are not as they were published.

    Args:
        mark: of the folder.
        there: name -> checksum, either SHA-256 or git's, of the files that are there.
    """
    known = {name: (file.get("sha256"), file.get("git")) for name, file in mark["files"].items()}
    return sorted(name for name, checksum in there.items() if checksum not in known.get(name, ()))


def see_replaceable(folder: Path, kind: str, run_id: str) -> None:
    """Refuse to write over a local folder that holds anybody's work.

    Raises:
        ValueError: it bears no mark of this run, or a file in it was changed or added.
    """
    if not folder.exists():
        return
    path = folder / NAME
    found = read_json(path, None, f"move {folder} away") if folder.is_dir() else None
    if not is_of(found, kind, run_id):
        raise ValueError(f"{folder} was not made by make publish for this run; move it away")
    there = {p.relative_to(folder).as_posix(): sha256(p) for p in files_of(folder)}
    if changed := differs(found, there):
        raise ValueError(
            f"{folder / changed[0]} was changed after it was written, and would be written anew; move "
            f"{folder} away, and put such changes on the hub after the push"
        )
