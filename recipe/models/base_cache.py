"""A base that was made on the spot is kept, as one of the hub would be, for all runs of the same settings."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from data_prep.files import cache_dir, sha256, write_folder
from recipe.models import tiny
from recipe.run.files import read_json

#: What decides how the same texts are read and learnt.
_LIBRARIES = ("torch", "transformers", "tokenizers")
_MODEL, _LOSSES, _DIGESTS = "model", "pretraining.json", "digests.json"


def place(texts: Iterable[str], more_texts: Iterable[str], settings: Any) -> Path:
    """Where the model of these texts and settings is kept, in the cache folder."""
    digest = hashlib.sha256()
    known = {
        "settings": dict(settings),
        "model": [tiny.SIZES, tiny.MAX_VOCABULARY],
        "libraries": {name: version(name) for name in _LIBRARIES},
    }
    for text in (json.dumps(known, sort_keys=True), *texts, "more", *more_texts):
        digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
    return cache_dir() / "bases" / digest.hexdigest()[:24]


def take(kept: Path, work: Path) -> bool:
    """Copy the model at ``kept`` and its losses into ``work``; False if there is none, or not as it was."""
    if not _whole(kept):
        return False
    shutil.rmtree(work / _MODEL, ignore_errors=True)
    shutil.copytree(kept / _MODEL, work / _MODEL)
    shutil.copy(kept / _LOSSES, work / _LOSSES)
    return True


def keep(work: Path, kept: Path) -> None:
    """Copy a model that was just made from ``work`` to ``kept``; a cache that cannot be written is told."""

    def copy(part: Path) -> None:
        shutil.copytree(work / _MODEL, part / _MODEL)
        shutil.copy(work / _LOSSES, part / _LOSSES)
        files = [path for path in part.rglob("*") if path.is_file()]
        digests = {path.relative_to(part).as_posix(): sha256(path) for path in files}
        (part / _DIGESTS).write_text(json.dumps(digests))

    try:
        if not _whole(kept):  # else another run has made it meanwhile, and may be reading it
            shutil.rmtree(kept, ignore_errors=True)
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_folder(kept, copy)
    except OSError as error:
        print(f"note: the base is not kept for the next run: {error.strerror or error}", flush=True)


def _whole(kept: Path) -> bool:
    try:
        digests = read_json(kept / _DIGESTS, {})
    except ValueError:  # cut off; the model is made anew and kept again
        return False
    return bool(digests) and all(
        (kept / name).is_file() and sha256(kept / name) == found for name, found in digests.items()
    )
