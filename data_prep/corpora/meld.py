"""Reader of MELD's ``{train,dev,test}_sent_emo.csv``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from data_prep.corpora.dialogue import Dialogue, Row, clean_name, read_csv_dialogues
from data_prep.corpora.found import SPLITS, Found, one_file_a_split

LAYOUT = "meld/{train,dev,test}_sent_emo.csv"
TERMS = (
    "lines of the television series Friends, as the corpus's authors give them out at "
    "https://github.com/declare-lab/MELD"
)
MAY_BE_PASSED_ON = True
ID_COLUMNS = ("Dialogue_ID", "Utterance_ID")
AGREEMENT = "three annotators agree with Fleiss' kappa 0.43 (Poria et al. 2019, arXiv:1810.02508)"


def find(_: Path, root: Path) -> Found:
    """The three CSV files of a release.

    Raises:
        DataError: one is missing.
    """
    return one_file_a_split({split: root / f"{split}_sent_emo.csv" for split in SPLITS}, read_split)


def read_split(path: str | Path, split: str) -> Iterator[Dialogue]:
    """Yield the dialogues of one file, ids ``{split}_{Dialogue_ID}``, utterances by Utterance_ID.

    Gaps in Utterance_ID are in the release itself (cut-out scenes) and are kept as they are.

    Raises:
        DataError: anything in the file that cannot be used; names file, line and remedy.
    """
    return read_csv_dialogues(path, split, "meld", ("Dialogue_ID",), _speaker)


def _speaker(row: Row) -> str:
    speaker = clean_name(row.cells["Speaker"], row.path, row.line)
    if not speaker:
        raise row.error("empty speaker", "fill in the name, or restore the row from the original release")
    return speaker
