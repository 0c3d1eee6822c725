"""Reader of EmoryNLP: ``emorynlp_{train,dev,test}_final.csv``, or its own JSON release."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from data_prep.corpora import emorynlp_json
from data_prep.corpora.dialogue import DataError, Dialogue, Row, clean_name, read_csv_dialogues
from data_prep.corpora.found import SPLITS, Found, one_file_a_split, spelled

_NAME = re.compile(r"""'(?:[^'\\]|\\.)*+'|"(?:[^"\\]|\\.)*+\"""")
_LIST = re.compile(rf"\s*\[\s*(?:{_NAME.pattern})(?:(?:\s*,\s*|\s+)(?:{_NAME.pattern}))*+\s*,?\s*\]\s*")

LAYOUT = "emorynlp/emorynlp_{train,dev,test}_final.csv (or emotion-detection-{trn,dev,tst}.json)"
TERMS = (
    "lines of the television series Friends, as the corpus's authors give them out at "
    "https://github.com/emorynlp/emotion-detection"
)
MAY_BE_PASSED_ON = True
ID_COLUMNS = ("Season", "Episode", "Scene_ID", "Utterance_ID")


def find(_: Path, root: Path) -> Found:
    """The three CSV files, or the three JSON files of EmoryNLP's own release (`emorynlp_json`).

    Raises:
        DataError: a file is missing, or both forms are there.
    """
    csv = {split: root / f"emorynlp_{split}_final.csv" for split in SPLITS}
    own = {split: root / f"emotion-detection-{short}.json" for split, short in emorynlp_json.NAMES.items()}
    if not any(spelled(root, path.name).is_file() for path in own.values()):
        return one_file_a_split(csv, read_split)
    if any(spelled(root, path.name).is_file() for path in csv.values()):
        raise DataError(
            root,
            None,
            "both the CSV files and the JSON files of EmoryNLP, which hold different utterances",
            "move one of the two away",
        )
    return one_file_a_split(own, emorynlp_json.read_split)


def read_split(path: str | Path, split: str) -> Iterator[Dialogue]:
    """Yield the dialogues of one file, ids ``{split}_{Season}_{Episode}_{Scene_ID}``, by Utterance_ID.

    Scene_ID restarts in every episode, hence the three-part key. Utterance ids need not be contiguous.

    Raises:
        DataError: anything in the file that cannot be used; names file, line and remedy.
    """
    return read_csv_dialogues(path, split, "emorynlp", ("Season", "Episode", "Scene_ID"), speaker_of)


def speaker_of(row: Row) -> str:
    """The speakers in a row's cell, such as ``['Monica Geller']``, as one.

    Raises:
        DataError: the cell is no list of names.
    """
    cell = row.cells["Speaker"]
    if not _LIST.fullmatch(cell):
        raise _no_speakers(row, cell)
    try:
        # Name by name: Python would join two texts without a comma between them, as numpy prints lists.
        names = [ast.literal_eval(quoted) for quoted in _NAME.findall(cell)]
    except (ValueError, SyntaxError):  # of an escape
        raise _no_speakers(row, cell) from None
    names = [clean_name(name, row.path, row.line) for name in names]
    if not all(names):
        raise _no_speakers(row, cell)
    return emorynlp_json.joined(names, row)


def _no_speakers(row: Row, cell: str) -> DataError:
    return row.error(
        f"speaker {cell[:60]!r} is no list of names", "write it as a Python list, such as ['First Last']"
    )
