"""A known corpus as a table, the way data sets are passed on: Parquet or JSON lines, a row an utterance.

Files lie in the corpus's folder or in ``data/`` there. A file's name begins with its split
(``train-00000-of-00002.parquet``, ``validation.jsonl``), or its rows name theirs in a column ``split``.
Columns, in any case: ``utterance`` or ``text``; ``emotion`` or ``label``, by name or by class id;
``speaker``; ``dialogue_id``; ``utterance_id`` where there is one. The names of class ids are in the Parquet
file itself, where the library `datasets` wrote it, or in ``label_names.json`` beside it. A row may also be a
whole dialogue, with lists in its cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby
from pathlib import Path
from typing import Any

from data_prep.corpora import dailydialog, emorynlp, iemocap
from data_prep.corpora.dialogue import (
    MOST_DIGITS,
    MOST_PEOPLE,
    MOST_TURNS,
    DataError,
    Dialogue,
    Row,
    Utterance,
    clean_name,
    clean_text,
)
from data_prep.corpora.found import SPLITS, Found
from data_prep.corpora.table_files import NAMES_FILE, Table, TableRow, names_remedy, tables_in
from rewards.labels import corpus_labels

#: Spellings of labels beside the corpus's own. None: no label of the corpus, so the line is context only.
_SPELLINGS: dict[str, dict[str, str | None]] = {
    "iemocap": {
        **iemocap.CODES,
        **iemocap.CATEGORIES,
        **dict.fromkeys((*iemocap.OTHER_CODES, "other", "fear", "surprise", "disgust")),
    },
    "dailydialog": {"no_emotion": "no emotion"},
}
#: Corpora in which two people without names take turns.
_TURNS = ("dailydialog",)


def find(corpus: str, root: Path) -> Found | None:
    """The tables of a corpus; None where there are none.

    Args:
        corpus: one of this project's own.
        root: its folder.

    Raises:
        DataError: a split has no file, a file cannot be read, or a column is missing.
    """
    tables = tables_in(root, ("text", "label") if corpus in _TURNS else ("text", "label", "speaker"))
    if not tables:
        return None
    splits_there = {table.split for table in tables}
    absent = [split for split in SPLITS if split not in splits_there]
    if None not in splits_there and absent:
        raise DataError(root, None, f"tables, but none of the {absent[0]} split", "complete the three splits")

    def read(splits: Sequence[str]) -> Iterator[Dialogue]:
        wanted = [split for split in SPLITS if split in splits]
        if corpus == "iemocap":  # its ids do not name their split
            _check_apart(tables)
        return chain.from_iterable(_read_split(corpus, root, tables, split) for split in wanted)

    return Found(lambda: [table.path for table in tables], read)


def _check_apart(tables: Sequence[Table]) -> None:
    """Refuse a dialogue in two splits, which would leak test text into training."""
    seen: dict[str, str] = {}
    for split in SPLITS:
        for row in chain.from_iterable(table.rows(split) for table in tables):
            if (first := seen.setdefault(name := _dialogue_of(row), split)) != split:
                problem = f"dialogue {name!r} stands in {first} and again in {split}"
                raise row.error(problem, "keep one of the two, or give every dialogue an id of its own")


def _read_split(corpus: str, root: Path, tables: Sequence[Table], split: str) -> Iterator[Dialogue]:
    seen: set[str] = set()
    # Over the files, since a dialogue may begin at the end of one.
    for name, rows in groupby(chain.from_iterable(table.rows(split) for table in tables), _dialogue_of):
        members = list(rows)
        if name in seen:
            problem = f"dialogue {name!r} stood above already, with others between"
            raise members[0].error(problem, "sort the rows by dialogue")
        seen.add(name)
        yield Dialogue(
            corpus=corpus,
            split=split,
            dialogue_id=name if corpus == "iemocap" else f"{split}_{name}",  # as the releases' readers
            utterances=_utterances(corpus, members),
        )
    if not seen:
        raise DataError(root, None, f"no row of the {split} split in the tables", "complete the three splits")


def _dialogue_of(row: TableRow) -> str:
    if "dialogue" not in row.cells:
        if not isinstance(row.cells["text"], list):
            raise row.error("no column for the dialogue", "call it dialogue_id")
        return f"{row.path.stem}_{row.number - 1}"
    given = row.cells["dialogue"]
    parts = given if isinstance(given, tuple) else (given,)
    return "_".join(str(_id(row, "dialogue", part)) for part in parts)


def _id(row: TableRow, what: str, value: Any) -> int | str:
    """An id as a whole number where it is one, in digits or as a float, too, else as a name."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, str):
        value = clean_name(value, row.path, row.number) or None
        if value and value.isascii() and value.isdigit() and len(value) <= MOST_DIGITS:
            value = int(value)
    if value is None:
        raise row.error(f"no {what} id", "fill it in, or restore the row")
    if isinstance(value, str) or (type(value) is int and abs(value) < 10**MOST_DIGITS):
        return value
    raise row.error(
        f"{what} id {repr(value)[:40]} is neither text nor a whole number", "correct it, or restore the row"
    )


def _utterances(corpus: str, rows: Sequence[TableRow]) -> tuple[Utterance, ...]:
    turns: dict[int | str, Utterance] = {}
    people: set[str] = set()
    for row in chain.from_iterable(map(_flat, rows)):
        given = row.cells.get("turn")
        key = len(turns) if given is None else _id(row, "utterance", given)
        if key in turns:
            raise row.error(f"utterance {key!r} of its dialogue stands there twice", "remove one of the two")
        text = "" if row.cells["text"] is None else row.cells["text"]
        if not isinstance(text, str):
            raise row.error(f"utterance {repr(text)[:40]} is no text", "write it as text")
        words = clean_text(text, row.path, row.number)
        if not words:
            raise row.error("empty utterance", "fill in the text, or remove the row")
        speaker = _speaker(corpus, row, len(turns))
        turns[key] = Utterance(str(key), speaker, words, _label(corpus, row))
        people.add(speaker)
        if len(turns) > MOST_TURNS or len(people) > MOST_PEOPLE:
            problem = f"a dialogue of more than {MOST_TURNS:,} utterances or {MOST_PEOPLE} people"
            raise row.error(problem, "correct the dialogue ids")
    numbered = all(isinstance(key, int) for key in turns)
    return tuple(turns[key] for key in (sorted(turns, key=int) if numbered else turns))


def _flat(row: TableRow) -> Iterable[TableRow]:
    """The row, or those of its utterances where whole dialogues stand in the cells, as lists."""
    if not isinstance(row.cells["text"], list):
        return [row]
    if not row.cells["text"]:
        raise row.error("a dialogue without an utterance", "remove the row, or restore it")
    lists = {kind: row.cells.get(kind) for kind in ("text", "label", "speaker") if kind in row.cells}
    lengths = {kind: len(cell) if isinstance(cell, list) else 0 for kind, cell in lists.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} of the {kind}" for kind, length in lengths.items())
        raise row.error(f"lists of different lengths ({told})", "restore the row")
    columns = [cell for cell in lists.values() if isinstance(cell, list)]
    return [
        TableRow(row.path, row.number, dict(zip(lists, cells, strict=True)), row.names)
        for cells in zip(*columns, strict=True)
    ]


def _speaker(corpus: str, row: TableRow, turn: int) -> str:
    cell = row.cells.get("speaker")
    if cell is None and corpus in _TURNS:
        return dailydialog.SPEAKERS[turn % 2]
    if corpus == "emorynlp" and isinstance(cell, str) and cell.startswith("["):
        return emorynlp.speaker_of(Row(row.path, row.number, {"Speaker": cell}))
    said_by = cell if isinstance(cell, list) else [cell]
    if strangers := [name for name in said_by if type(name) not in (str, int, type(None))]:
        raise row.error(f"speaker {repr(strangers[0])[:40]} is no name", "write it as text")
    names = [clean_name(str(name), row.path, row.number) for name in said_by if name is not None]
    if not names or not all(names):
        raise row.error("no speaker", "fill in the name, or remove the row")
    return " and ".join(dict.fromkeys(names))


def _label(corpus: str, row: TableRow) -> str | None:
    """The label in the corpus's spelling; None for a line that is context only."""
    cell = row.cells["label"]
    if cell is None:
        return None
    # Where a whole number is missing somewhere, pandas makes floats of all.
    name = str(int(cell) if isinstance(cell, float) and cell.is_integer() else cell).strip()
    if name.isascii() and name.isdigit():
        if row.names is None:
            remedy = names_remedy(row.path.parent / NAMES_FILE)
            raise row.error(f"class id {name[:40]}, and nobody says what it means", remedy)
        if len(name) > MOST_DIGITS or int(name) >= len(row.names):  # of more digits Python makes no number
            raise row.error(
                f"class id {name[:40]} of {len(row.names)} classes", "correct the names or the id"
            )
        name = row.names[int(name)]
    known = corpus_labels(corpus)
    spellings = _SPELLINGS.get(corpus, {}) | {label.casefold(): label for label in known}
    if name.casefold() not in spellings:
        problem = f"unknown emotion {name[:40]!r}; expected one of {', '.join(known)}"
        raise row.error(problem, "correct the label, or restore the row")
    return spellings[name.casefold()]
