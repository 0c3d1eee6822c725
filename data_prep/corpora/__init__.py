"""The corpora below one folder, found and read: a module for every name in `rewards.labels.known_corpora`.

A module says where its files lie (``LAYOUT``, for messages) and finds them: ``find(raw_dir, root)`` is
given the folder of all corpora and the corpus's own, and returns a `Found`. Any corpus may be absent, and any
may lie there as tables instead (`tables`). To add one: its labels in `rewards.labels`, a module of its name
here, a test; or a package of your own with an entry point of the group `self_emo.corpora`.
"""

from __future__ import annotations

import logging
import os
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from data_prep.corpora import tables
from data_prep.corpora.dialogue import DataError, Dialogue
from data_prep.corpora.found import SPLITS, Found
from rewards.labels import LABELS, OTHERS, known_corpora, plugin_corpora

__all__ = [
    "SPLITS",
    "DataError",
    "Dialogue",
    "Found",
    "agreement_of",
    "find_corpora",
    "id_columns",
    "may_be_passed_on",
    "read_corpora",
    "terms_of",
]

_log = logging.getLogger(__name__)
_READERS: dict[str, Any] = {name: import_module(f"data_prep.corpora.{name}") for name in LABELS | OTHERS}


def find_corpora(raw_dir: str | Path, corpora: Sequence[str] | None = None) -> dict[str, Found]:
    """The corpora that are there, in the order of `known_corpora`; a folder's case does not matter.

    Args:
        raw_dir: the folder with a folder for each corpus; ``~`` is the user's home.
        corpora: look for these only, and require them, a word is one; None or empty takes what is there of
            the paper's three (``LABELS``).

    Raises:
        DataError: no such folder, no known corpus in it, one asked for is absent, one lacks a file, or
            stands there twice, or a folder may not be read.
        ValueError: a package's corpus cannot be used.
    """
    raw_dir = Path(os.path.expanduser(raw_dir))  # Path's own raises where there is no such user
    with _readable(raw_dir):
        return _find_all(raw_dir, corpora)


@contextmanager
def _readable(folder: Path | str) -> Iterator[None]:
    """Say in a `DataError` what the disk refuses to show of a folder."""
    try:
        yield
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        remedy = "check its name and its permissions, or set RAW_DIR=... to another folder"
        raise DataError(error.filename or folder, None, problem, remedy) from None


def _find_all(raw_dir: Path, corpora: Sequence[str] | None) -> dict[str, Found]:
    if not raw_dir.is_dir():
        wanted = f"set RAW_DIR=... to the folder that holds {_looked_for(LABELS)}"
        raise DataError(raw_dir, None, "no such folder", wanted)
    asked = (corpora,) if isinstance(corpora, str) else tuple(corpora or LABELS)
    known = known_corpora()
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise DataError(raw_dir, None, f"unknown corpus {unknown[0]!r}", f"choose among {', '.join(known)}")
    folders = {name: _folder(raw_dir, name) for name in known if name in asked}
    absent = [name for name, folder in folders.items() if folder is None]
    alike = [p.name for p in sorted(raw_dir.iterdir()) if any(name in _plain(p.name) for name in absent)]
    alike = [name for name in alike if name not in {folder.name for folder in folders.values() if folder}]
    if len(absent) == len(folders) or (corpora and absent):
        remedy = "make download RAW_DIR=... fetches MELD and EmoryNLP, and says how to get IEMOCAP"
        if not LABELS.keys() & set(absent):
            remedy = "unpack the release there, or leave it out of the corpora"
        if alike:
            remedy = (
                f"{', '.join(alike)} is there: unpack it if it is packed, and call the folder {absent[0]}"
            )
        raise DataError(raw_dir, None, f"found no {_looked_for(absent)}", remedy)
    for name in alike:
        _note(str(raw_dir / name), ", ".join(absent))
    return {name: _find(name, raw_dir, folder) for name, folder in folders.items() if folder}


def read_corpora(
    raw_dir: str | Path, corpora: Sequence[str] | None = None, splits: Sequence[str] = SPLITS
) -> Iterator[Dialogue]:
    """Yield every dialogue, corpus by corpus and within one train, dev, test; one is held at a time.

    Args:
        raw_dir: see :func:`find_corpora`.
        corpora: see :func:`find_corpora`.
        splits: read these only.

    Raises:
        DataError: at the call if files are missing, on iteration if one cannot be used.
    """
    with _readable(raw_dir):
        return chain.from_iterable([found.read(splits) for found in find_corpora(raw_dir, corpora).values()])


def terms_of(corpus: str) -> str:
    """On what terms a corpus is given out, in words."""
    return getattr(_READERS.get(corpus), "TERMS", "on terms that its module does not state")


def may_be_passed_on(corpus: str) -> bool:
    """Whether a corpus's text may be published again; not where its module does not say so."""
    return getattr(_READERS.get(corpus), "MAY_BE_PASSED_ON", False) is True


def id_columns(corpus: str) -> tuple[str, ...]:
    """What a corpus's release calls the ids of a row: those of the dialogue, then that of the utterance."""
    return getattr(_READERS.get(corpus), "ID_COLUMNS", ("dialogue_id", "utterance_id"))


def agreement_of(corpus: str) -> str | None:
    """How well a corpus's annotators agree, with the source: what a score can be worth. None: unknown."""
    return getattr(_READERS.get(corpus), "AGREEMENT", None)


@cache
def _note(path: str, absent: str) -> None:
    _log.warning("%s is not read: a corpus lies unpacked in a folder of its name (%s)", path, absent)


def _folder(raw_dir: Path, name: str) -> Path | None:
    """The folder of a corpus, however its name is capitalised: releases are unpacked as MELD and as meld."""
    found = sorted(path for path in raw_dir.iterdir() if path.is_dir() and path.name.casefold() == name)
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(raw_dir, None, f"{names} are the same corpus", "keep one of the folders")
    return found[0] if found else None


def _plain(name: str) -> str:
    """Letters and digits alone: Emory_NLP and "Daily Dialog" are nearly the names of corpora."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", name).casefold()))


def _looked_for(names: Sequence[str] | dict[str, Any]) -> str:
    return " or ".join(_reader(name).LAYOUT for name in names)


def _reader(name: str) -> Any:
    return _READERS.get(name) or plugin_corpora()[name]


def _find(name: str, raw_dir: Path, folder: Path) -> Found:
    """A corpus in the form of its release or as tables, whichever lies there."""
    as_tables = tables.find(name, folder) if name in _READERS else None
    if as_tables is None:
        return _reader(name).find(raw_dir, folder)
    try:
        _reader(name).find(raw_dir, folder)
    except DataError:  # the release is not there, as it should be
        return as_tables
    problem = f"both the release of {name} and tables ({as_tables.paths()[0].name})"
    raise DataError(folder, None, problem, "move one of the two away")
