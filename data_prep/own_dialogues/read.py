"""A user's file as dialogues, one held at a time, and a first look at all of it before anything is asked."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from data_prep.corpora.dialogue import Dialogue, Utterance
from data_prep.corpora.errors import DataError
from data_prep.corpora.text import clean_name, clean_text
from data_prep.own_dialogues.records import Record, read_records

#: What stands for the corpus and for the split of such dialogues.
CORPUS, SPLIT = "own", "own"
#: Who speaks where a file does not say so.
SOMEBODY = "Speaker"
#: Utterances of a file that is held as a whole, because the rows of its dialogues do not stand together.
HELD = 100_000
#: As in the corpora (`data_prep.corpora.dialogue`).
MOST_PEOPLE, MOST_TURNS = 200, 2_000
_MOST_DIGITS = 18


@dataclass(frozen=True, slots=True)
class OwnDialogue:
    """A dialogue, and the line of the file where each of its utterances stands."""

    dialogue: Dialogue
    lines: tuple[int, ...]


@dataclass(frozen=True)
class Overview:
    """What the first look at a file has found.

    Attributes:
        utterances, dialogues: how many there are.
        labelled: utterances with a label.
        together: whether the rows of every dialogue stand together, so that one is held at a time.
        columns: key of `columns.NAMES` -> the column's name.
        unused: the other columns.
    """

    utterances: int
    dialogues: int
    labelled: int
    together: bool
    columns: Mapping[str, str]
    unused: Sequence[str]


def look_through(
    path: Path,
    labels: Sequence[str],
    asked: Mapping[str, str],
    shown: Callable[[int], object] = lambda count: None,
) -> Overview:
    """Read all of a file once, to tell now what cannot be used, and how much there is.

    Args:
        path: the file.
        labels: that utterances can have.
        asked: which column is which, as `columns.read_columns` has it.
        shown: is told now and then how many utterances were read.

    Raises:
        DataError: the first thing that cannot be used, with file, line and remedy.
    """
    records = read_records(path, asked)
    counted = _Counted(shown)
    # 16 bytes a dialogue. Two ids of one hash only cost the memory of the second way.
    keys, lines = array("q"), array("q")
    dialogue_of, last = _dialogue_of(path), None
    for row in counted.all_of(records.rows):
        if (dialogue := dialogue_of(row)) != last:
            keys.append(hash(dialogue))
            lines.append(row.line)
            last = dialogue
    if not keys:
        raise DataError(path, None, "no utterance is in it", "name a file with dialogues, IN=...")
    hashes = np.frombuffer(keys, np.int64)
    together = len(np.unique(hashes)) == len(hashes)
    if not together and counted.count > HELD:
        raise _scattered(path, hashes, lines)
    dialogues = labelled = 0
    for own in read_dialogues(path, labels, asked, together):
        dialogues += 1
        labelled += sum(utterance.label is not None for utterance in own.dialogue.utterances)
    return Overview(counted.count, dialogues, labelled, together, records.columns, records.unused)


def read_dialogues(
    path: Path, labels: Sequence[str], asked: Mapping[str, str], together: bool
) -> Iterator[OwnDialogue]:
    """Yield the dialogues in the order in which they first appear.

    Utterances are in the order of their ids where all of a dialogue's are whole numbers, as in MELD, else in
    that of the file. Text and names are cleaned as those of the corpora.

    Args:
        path, labels, asked: as for `look_through`.
        together: its finding; False holds the whole file.

    Raises:
        DataError: as `look_through`.
    """
    rows, dialogue_of = read_records(path, asked).rows, _dialogue_of(path)
    groups: Iterable[tuple[str, Iterable[Record]]]
    if together:
        groups = groupby(rows, dialogue_of)
    else:
        held: dict[str, list[Record]] = {}
        for row in rows:
            held.setdefault(dialogue_of(row), []).append(row)
        groups = held.items()
    reader = _Reader(path, {label.casefold(): label for label in labels})
    return (reader.dialogue(name, members) for name, members in groups)


class _Counted:
    """Counts what passes, and tells of every thousandth."""

    def __init__(self, shown: Callable[[int], object]):
        self.count, self._shown = 0, shown

    def all_of(self, rows: Iterable[Record]) -> Iterator[Record]:
        for row in rows:
            self.count += 1
            if self.count % 1_000 == 0:
                self._shown(self.count)
            yield row


def _dialogue_of(path: Path) -> Callable[[Record], str]:
    def name(row: Record) -> str:
        if "dialogue" not in row.cells:
            return "1"
        found = _cleaned(clean_name, row.cells["dialogue"], path, row.line)
        if not found:
            raise DataError(path, row.line, "empty dialogue id", "fill it in")
        return found

    return name


def _scattered(path: Path, hashes: np.ndarray, lines: Sequence[int]) -> DataError:
    _, first = np.unique(hashes, return_index=True)
    again = min(set(range(len(hashes))) - set(first.tolist()))
    problem = f"a dialogue goes on that others have interrupted; above {HELD:,} rows its rows stand together"
    return DataError(path, lines[again], problem, "sort the file by dialogue")


class _Reader:
    def __init__(self, path: Path, labels: Mapping[str, str]):
        self._path, self._labels = path, labels

    def dialogue(self, name: str, members: Iterable[Record]) -> OwnDialogue:
        turns: dict[str | int, tuple[int, Utterance]] = {}
        people: set[str] = set()
        for i, row in enumerate(members):
            utterance = self._utterance(i, row)
            key = _number(utterance.utterance_id)
            if key in turns:
                problem = f"utterance id {key} of dialogue {name!r} twice, first on line {turns[key][0]}"
                raise self._error(
                    row, problem, 'give each its own, or leave the ids out, FIELDS="utterance="'
                )
            turns[key] = row.line, utterance
            people.add(utterance.speaker)
            if len(turns) > MOST_TURNS or len(people) > MOST_PEOPLE:
                problem = f"a dialogue of more than {MOST_TURNS:,} utterances or {MOST_PEOPLE} people"
                remedy = (
                    "name its dialogues in a column dialogue_id; sentences that belong to none have one each"
                )
                raise self._error(row, problem, remedy)
        numbered = all(isinstance(key, int) for key in turns)
        found = [turns[key] for key in (sorted(turns, key=int) if numbered else turns)]
        dialogue = Dialogue(CORPUS, SPLIT, name, tuple(utterance for _, utterance in found))
        return OwnDialogue(dialogue, tuple(line for line, _ in found))

    def _utterance(self, i: int, row: Record) -> Utterance:
        cells, line = row.cells, row.line
        text = _cleaned(clean_text, cells["text"], self._path, line)
        if not text:
            raise self._error(row, "empty text", "fill it in, or remove the row")
        speaker = SOMEBODY
        if "speaker" in cells and not (speaker := _cleaned(clean_name, cells["speaker"], self._path, line)):
            remedy = 'fill in who speaks, or leave speakers out, FIELDS="speaker="'
            raise self._error(row, "empty speaker", remedy)
        named = str(i)
        if "utterance" in cells and not (named := _cleaned(clean_name, cells["utterance"], self._path, line)):
            raise self._error(row, "empty utterance id", 'fill it in, or leave ids out, FIELDS="utterance="')
        return Utterance(named, speaker, text, self._label(row))

    def _label(self, row: Record) -> str | None:
        given = row.cells.get("label", "").strip()
        if not given:
            return None
        if (label := self._labels.get(given.casefold())) is None:
            problem = f"label {given[:60]!r} is not among {', '.join(self._labels.values())}"
            remedy = 'name the list of labels, LABELS="a,b,c", or leave the column out, FIELDS="label="'
            raise self._error(row, problem, remedy)
        return label

    def _error(self, row: Record, problem: str, remedy: str) -> DataError:
        return DataError(self._path, row.line, problem, remedy)


def _cleaned(clean: Callable[[str, Path, int], str], text: str, path: Path, line: int) -> str:
    """A cell as a corpus's would be; what cannot be mended is nobody's release that could be restored."""
    try:
        return clean(text, path, line)
    except DataError as error:
        raise DataError(path, line, error.problem, "correct the line") from None


def _number(name: str) -> str | int:
    """An id as a number where it is a whole one, else as it stands."""
    return int(name) if name.isascii() and name.isdigit() and len(name) <= _MOST_DIGITS else name
