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


def spelled(folder: Path, name: str) -> Path:
    """The entry of a folder with this name in whatever capitals; ``folder / name`` where there is none.

    Raises:
        DataError: there are two of them.
    """
    entries = folder.iterdir() if folder.is_dir() else []
    found = sorted(path for path in entries if path.name.casefold() == name.casefold())
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise DataError(folder, None, f"{names} differ in their capitals alone", "keep one of them")
    return found[0] if found else folder / name


def one_file_a_split(
    paths: Mapping[str, Path], read_split: Callable[[Path, str], Iterator[Dialogue]]
) -> Found:
    """A corpus with one file for each split.

    Args:
        paths: split -> file; its capitals do not matter.
        read_split: yields the dialogues of a file, given the file and its split.

    Raises:
        DataError: a file is missing, or stands there twice, in other capitals.
    """
    paths = {split: spelled(path.parent, path.name) for split, path in paths.items()}
    for path in paths.values():
        if not path.is_file():
            problem = "this is no file" if path.exists() else "no such file"
            raise DataError(
                path, None, problem, f"complete {path.parent.name}, or leave it out of the corpora"
            )

    def read(splits: Sequence[str]) -> Iterator[Dialogue]:
        return chain.from_iterable(read_split(paths[split], split) for split in paths if split in splits)

    return Found(lambda: list(paths.values()), read)
