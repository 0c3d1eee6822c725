"""What a step left, file by file, and what it was made from: so that nothing is built on what has changed.

A step's ``manifest.json`` is written before the step commits. It names the manifests of the steps that it
read, by their checksums, so the last one of a run vouches for all before it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.files import sha256, write_json
from recipe.run.files import read_json

NAME = "manifest.json"
#: What pages and `recipe.run.process` leave beside a step's files once it is done.
_LATER = {NAME, "own_emotions.json"}


class IntegrityError(ValueError):
    """A file of a run is not the one that its step left; the message names it and the remedy."""


def write(work: Path, run: Path, step: str, parents: Iterable[str], took: Mapping[str, float]) -> None:
    """Describe a step that is about to commit.

    Args:
        work: its folder as it will be.
        run: the run's folder.
        step: its name, such as ``iter_1/rl``.
        parents: the steps that it read: names, or folders of another run.
        took: its ``seconds``, and when it was ``finished``, in seconds since 1970.
    """
    content = {
        "step": step,
        "took": dict(took),
        "parents": {parent: digest(run / parent) for parent in parents},
        "files": {path.relative_to(work).as_posix(): _describe(path) for path in _files(work)},
    }
    write_json(work / NAME, content)


def steps_of(run: Path) -> list[str]:
    """The finished steps of a run that have a manifest."""
    found = sorted([*run.glob(f"*/{NAME}"), *run.glob(f"*/*/{NAME}")])
    steps = [path.parent.relative_to(run).as_posix() for path in found]
    return [step for step in steps if not step.endswith(".work")]


def read(step: Path) -> dict[str, Any]:
    """The manifest of a step's folder.

    Raises:
        ValueError: it is missing or broken.
    """
    found = read_json(step / NAME, remedy=_remedy(step))
    if not isinstance(found, dict) or not {"step", "took", "parents", "files"} <= found.keys():
        raise ValueError(f"{step / NAME}: no manifest of a step; {_remedy(step)}")
    return found


def digest(step: Path) -> str | None:
    """What a step is known by: its manifest's checksum; None for one of before there were manifests."""
    return sha256(step / NAME) if (step / NAME).is_file() else None


def model_files(step: Path) -> dict[str, str]:
    """The files of the model that a step left -> their checksums; empty without a manifest."""
    found = read(step)["files"] if (step / NAME).is_file() else {}
    return {name: known["sha256"] for name, known in found.items() if name.startswith("model/")}


def check(run: Path, step: str) -> list[str]:
    """What is wrong with a finished step: its files, its place, what it was made from.

    Args:
        run: the run's folder.
        step: the step's name, or its folder in another run.

    Returns:
        One line each, with the file's path; empty if all is as the step left it. A step without a manifest,
        of an older version, is taken as it is.
    """
    folder = run / step
    if not folder.is_dir():
        return [f"{folder}: the step is not there"]
    if not (folder / NAME).is_file():
        return []
    known = read(folder)
    own_run = folder.resolve().as_posix().removesuffix(f"/{known['step']}")
    if own_run == folder.resolve().as_posix():
        return [f"{folder}: it is a copy of the step {known['step']}"]
    found = []
    for parent, was in known["parents"].items():
        if was and (now := digest(Path(own_run, parent))) != was:
            other = (
                f"another {parent} than the one that is there" if now else f"{parent}, whose manifest is gone"
            )
            found.append(f"{folder}: it was made from {other}")
    there = {path.relative_to(folder).as_posix(): path for path in _files(folder)}
    found += [f"{folder / name}: it is missing" for name in sorted(known["files"].keys() - there.keys())]
    found += [f"{path}: no step left it" for name, path in there.items() if name not in known["files"]]
    for name in known["files"].keys() & there.keys():
        if problem := _difference(there[name], known["files"][name]):
            found.append(f"{there[name]}: {problem}")
    return found


def require(run: Path, step: str) -> None:
    """Refuse to build on a step that is not as it was left.

    Raises:
        IntegrityError: what is wrong first, and what to do.
    """
    if found := check(run, step):
        more = f" (and {len(found) - 1} more, see make verify)" if len(found) > 1 else ""
        raise IntegrityError(f"{found[0]}{more}; {_remedy(run / step)}")


def _remedy(folder: Path) -> str:
    return f"restore it from a copy, or delete {folder} and what was made from it, and resume the run"


def _files(folder: Path) -> Iterator[Path]:
    yield from (
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not (path.parent == folder and path.name in _LATER)
    )


def _describe(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = {"size": path.stat().st_size, "sha256": sha256(path)}
    if path.suffix == ".parquet":
        found["rows"] = pq.read_metadata(path).num_rows
    return found


def _difference(path: Path, was: dict[str, Any]) -> str | None:
    if (size := path.stat().st_size) != was["size"]:
        return f"it has {size:,} bytes, its step left {was['size']:,}"
    if sha256(path) == was["sha256"]:
        return None
    if "rows" in was:
        try:
            rows = pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError):
            return "its content has changed since its step left it"
        if rows != was["rows"]:
            return f"it has {rows:,} rows, its step left {was['rows']:,}"
    return "its content has changed since its step left it"
