"""A corpus that was found on disk: which files it is, and how its dialogues are read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from data_prep.corpora.dialogue import DataError, Dialogue

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Found:
    """What a corpus module's ``find`` returns.

    Attributes:
        paths: every file that is read.
        read: yields the dialogues of the splits that it is given, split by split, one held at a time;
            DataError at the call if files are missing, on iteration if one cannot be used.
    """

    paths: Callable[[], list[Path]]
    read: Callable[[Sequence[str]], Iterator[Dialogue]]


def one_file_a_split(
    paths: Mapping[str, Path], read_split: Callable[[Path, str], Iterator[Dialogue]]
) -> Found:
    """A corpus with one file for each split.

    Args:
        paths: split -> file.
        read_split: yields the dialogues of a file, given the file and its split.

    Raises:
        DataError: a file is missing.
    """
    for path in paths.values():
        if not path.is_file():
            problem = "this is no file" if path.exists() else "no such file"
            raise DataError(
                path, None, problem, f"complete {path.parent.name}, or leave it out of the corpora"
            )

    def read(splits: Sequence[str]) -> Iterator[Dialogue]:
        return chain.from_iterable(read_split(paths[split], split) for split in paths if split in splits)

    return Found(lambda: list(paths.values()), read)
