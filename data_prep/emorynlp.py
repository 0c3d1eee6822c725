"""Reader of EmoryNLP's ``emorynlp_{train,dev,test}_final.csv``."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from data_prep.dialogue import DataError, Dialogue, Row, clean_text, read_csv_dialogues


def read_split(path: str | Path, split: str) -> Iterator[Dialogue]:
    """Yield the dialogues of one file, ids ``{split}_{Season}_{Episode}_{Scene_ID}``, by Utterance_ID.

    Scene_ID restarts in every episode, hence the three-part key. Utterance ids need not be contiguous.

    Raises:
        DataError: anything in the file that cannot be used; names file, line and remedy.
    """
    return read_csv_dialogues(path, split, "emorynlp", ("Season", "Episode", "Scene_ID"), _speaker)


def _speaker(row: Row) -> str:
    cell = row.cells["Speaker"]
    try:
        names = ast.literal_eval(cell.strip())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        names = None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise _no_speakers(row, cell)
    names = [clean_text(name, row.path, row.line) for name in names]
    if not all(names):
        raise _no_speakers(row, cell)
    return " and ".join(names)


def _no_speakers(row: Row, cell: str) -> DataError:
    return row.error(
        f"speaker {cell!r} is no list of names", "write it as a Python list, such as ['First Last']"
    )
