"""Dialogues as every corpus reader hands them out, and what the readers share.

A reader either yields whole, checked dialogues or raises :class:`DataError`; no row is dropped silently.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from data_prep.corpora.errors import DataError
from data_prep.corpora.text import clean_name, clean_text
from rewards.labels import corpus_labels

__all__ = [
    "MOST_BYTES", "MOST_DIGITS", "MOST_PEOPLE", "MOST_TURNS", "DataError", "Dialogue", "Row", "Utterance",
    "clean_name", "clean_text", "corpus_label", "csv_rows", "read_csv_dialogues", "text_lines",
    "whole_number",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Utterance:
    """One utterance; ``label`` is in the corpus's own spelling, None where it is context only.

    ``votes`` are the annotators', label -> how many, where a corpus has them; only labels of the corpus.
    """

    utterance_id: str
    speaker: str
    text: str
    label: str | None
    votes: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Dialogue:
    """One dialogue with at least one utterance, in spoken order."""

    corpus: str
    split: str
    dialogue_id: str
    utterances: tuple[Utterance, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One CSV row: its cells by column name, and where it stands."""

    path: Path
    line: int
    cells: dict[str, str]

    def error(self, problem: str, remedy: str) -> DataError:
        """The error that names this row."""
        return DataError(self.path, self.line, problem, remedy)


#: Bytes of a line of a CSV file, digits of an id, people and utterances of a dialogue: far above what any
#: release has, and a bound on the memory that a broken file takes.
MOST_BYTES, MOST_DIGITS, MOST_PEOPLE, MOST_TURNS = 1_000_000, 18, 200, 2_000


#: What some files are; the second is what old Macs wrote, and spreadsheets as "CSV (Macintosh)" still do.
NO_UTF8 = "this is UTF-16 or UTF-32, or no text at all"
ZEROS = "a line of zero bytes alone, as a crash or a full disk leaves them"
BARE_CR = "its line ends are carriage returns alone"
#: First bytes of what people take for text.
_PACKED = {
    b"\x1f\x8b": "a gzip file",
    b"PK\x03\x04": "a zip file or a spreadsheet",
    b"PAR1": "a Parquet file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"\x28\xb5\x2f\xfd": "a Zstandard file",
    b"7z\xbc\xaf": "a 7z file",
    b"Rar!": "a RAR file",
    b"%PDF": "a PDF file",
    b"version https://git-lfs": "a pointer of Git LFS",
    b"<!doctype": "a web page",
    b"<html": "a web page",
}


def packed(begin: bytes) -> str | None:
    """What a file is that begins so, in words; None where that may be text."""
    return next((kind for first, kind in _PACKED.items() if begin.lower().startswith(first.lower())), None)


def utf16(begin: bytes) -> str | None:
    """What iconv calls the encoding of a file that begins so, if that is UTF-16 or UTF-32; else None.

    Without a mark it is known by its zero bytes, which every ASCII character has there and UTF-8 text never.
    """
    if begin.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if begin.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if _zeros(begin):
        return None
    if (place := begin.find(b"\0")) < 0 or begin.count(b"\0") * 4 < len(begin):  # a few are a slip
        return None
    if begin.count(b"\0") * 5 > len(begin) * 3:
        return "utf-32le" if place else "utf-32be"
    return "utf-16le" if place % 2 else "utf-16be"


def _zeros(raw: bytes) -> bool:
    """Are there zero bytes alone, and more than the three beside a line end of UTF-32?"""
    return raw.count(b"\0") > 3 and not raw.strip(b"\0\r\n")


def to_utf8(encoding: str) -> str:
    """The remedy for a file in another encoding."""
    return f"save it as UTF-8, for example with iconv -f {encoding} -t utf-8 FILE > NEW_FILE"


def text_lines(path: Path, fallback: str | None = None, most: int = -1) -> Iterator[tuple[int, str]]:
    r"""Yield (line number, line with its ``\n``) of a UTF-8 file, with or without a byte order mark.

    Args:
        path: the file.
        fallback: encoding of lines that are not UTF-8; None makes them an error.
        most: bytes of a line; -1: any number.

    Raises:
        DataError: the file cannot be opened, is none, is UTF-16, has line ends of CR alone, or a line cannot
            be decoded or is too long.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise DataError(path, None, "this is no file", "put the file of the original release there")
        with path.open("rb") as file:
            # Decoding line by line names the exact line of a bad byte; a text file decodes in blocks.
            for number, raw in enumerate(iter(lambda: file.readline(most), b""), start=1):
                if _zeros(raw):
                    raise DataError(path, number, ZEROS, "restore the file of the original release")
                if number == 1:
                    _check_begin(raw, path)
                elif number == 2 and raw.startswith(b"\0"):  # the other half of the first line's end
                    raise DataError(path, 1, NO_UTF8, to_utf8("utf-16le"))
                if len(raw) == most:
                    problem = f"a line of more than {most:,} bytes"
                    raise DataError(path, number, problem, "restore the file of the original release")
                yield number, _decode(raw, path, number, fallback)
    except OSError as error:
        raise DataError(
            path,
            None,
            f"cannot be read ({error.strerror})",
            "put the file of the original release there and check its permissions",
        ) from error


def _check_begin(raw: bytes, path: Path) -> None:
    """Refuse a file whose first line shows that it is no text, or text that is not read line by line."""
    if kind := packed(raw):
        raise DataError(path, None, f"this is {kind}", "unpack it, or take the original release")
    if encoding := utf16(raw):
        raise DataError(path, 1, NO_UTF8, to_utf8(encoding))
    if not raw.endswith(b"\n") and b"\r" in raw.rstrip(b"\r"):  # the whole file would be one line
        remedy = "give it others, for example with tr '\\r' '\\n' < FILE > NEW_FILE"
        raise DataError(path, None, BARE_CR, remedy)


def _decode(raw: bytes, path: Path, number: int, fallback: str | None) -> str:
    try:
        text = raw.decode()
        return text.lstrip("\ufeff") if number == 1 else text  # some write the mark twice
    except UnicodeDecodeError as error:
        if fallback is not None:
            return raw.decode(fallback)
        raise DataError(
            path,
            number,
            f"byte 0x{raw[error.start]:02x} is not UTF-8",
            "save the file as UTF-8, or take the original release",
        ) from error


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV file, of which only ``columns`` are kept; blank lines are passed over.

    Raises:
        DataError: empty file, a column missing or doubled, too few or too many fields, broken quotes.
    """
    reader = csv.reader((line for _, line in text_lines(path, most=MOST_BYTES)), strict=True)
    try:
        header = [cell.strip() for cell in next((cells for cells in reader if cells), [])]
        if not any(header):
            raise DataError(path, None, "the file is empty", "put the file of the original release there")
        places = _column_places(path, reader.line_num, header, columns)
        for cells in reader:
            if not cells:
                continue
            if len(cells) != len(header):
                raise DataError(
                    path,
                    reader.line_num,
                    f"{len(cells)} fields where the header has {len(header)}",
                    "quote fields that hold commas, or restore the row from the original release",
                )
            yield Row(path, reader.line_num, {name: cells[place] for name, place in places.items()})
    except csv.Error as error:
        raise DataError(
            path,
            reader.line_num,
            f"broken CSV ({error})",
            "close and double quotes, or restore the original file",
        ) from error


def _column_places(path: Path, line: int, header: list[str], columns: Sequence[str]) -> dict[str, int]:
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(
            path,
            line,
            f"missing column(s) {', '.join(missing)}",
            f"the header must name {', '.join(columns)}, in any order, with commas between",
        )
    doubled = [name for name in columns if header.count(name) > 1]
    if doubled:
        raise DataError(path, line, f"column(s) {', '.join(doubled)} named twice", "keep one of them")
    return {name: header.index(name) for name in columns}


def whole_number(row: Row, column: str) -> int:
    """The id in a cell, a whole number from 0 on; anything else (``1.0`` too) is a DataError."""
    cell = row.cells[column].strip()
    # Not int() alone: it also takes "1_0", "-1" and digits of other scripts, and no more than 4,300 digits.
    if not (cell.isascii() and cell.isdigit()) or len(cell) > MOST_DIGITS:
        shown = repr(cell) if len(cell) <= 40 else f"{cell[:40]!r}..."
        raise row.error(f"{column} {shown} is not a whole number", "restore the id from the original release")
    return int(cell)


def corpus_label(row: Row, column: str, corpus: str) -> str:
    """The label in a cell, found whatever its case and returned in the corpus's spelling, or a DataError."""
    cell = row.cells[column].strip()
    for label in corpus_labels(corpus):
        if label.casefold() == cell.casefold():
            return label
    raise row.error(
        f"unknown emotion {cell[:40]!r}; expected one of {', '.join(corpus_labels(corpus))}",
        "correct the label, or restore the row from the original release",
    )


def read_csv_dialogues(
    path: str | Path,
    split: str,
    corpus: str,
    dialogue_columns: Sequence[str],
    speaker_of: Callable[[Row], str],
) -> Iterator[Dialogue]:
    """Yield the dialogues of one CSV file in the order in which they first appear.

    The file is read twice: first to see whether the rows of every dialogue stand together. If so, as in
    every release, one dialogue is held at a time; if not, the whole file.

    Args:
        path: the file, with the columns Utterance, Speaker, Emotion, Utterance_ID and ``dialogue_columns``.
        split: name of the split, the beginning of every dialogue id.
        corpus: key of ``LABELS``.
        dialogue_columns: the columns of whole numbers that together name a dialogue.
        speaker_of: reads the speaker of a row.

    Raises:
        DataError: see the module; names the file, the line and a remedy.
    """
    path = Path(path)

    def rows() -> Iterator[Row]:
        return csv_rows(path, ("Utterance", "Speaker", "Emotion", "Utterance_ID", *dialogue_columns))

    def dialogue_of(row: Row) -> tuple[int, ...]:
        return tuple(whole_number(row, column) for column in dialogue_columns)

    # 8 bytes a dialogue. Two ids of one hash only cost the memory of the second way.
    hashes = np.fromiter((hash(dialogue) for dialogue, _ in groupby(rows(), dialogue_of)), np.int64)
    if not len(hashes):
        raise DataError(path, None, "a header but no utterance", "put the file of the original release there")
    together: Iterable[tuple[tuple[int, ...], Iterable[Row]]]
    if len(np.unique(hashes)) == len(hashes):
        together = groupby(rows(), dialogue_of)
    else:
        held: dict[tuple[int, ...], list[Row]] = {}
        for row in rows():
            held.setdefault(dialogue_of(row), []).append(row)
        together = held.items()
    for dialogue, members in together:
        turns: dict[int, tuple[int, Utterance]] = {}
        people: set[str] = set()
        for row in members:
            number = whole_number(row, "Utterance_ID")
            if number in turns:
                names = ", ".join(f"{name} {row.cells[name].strip()}" for name in dialogue_columns)
                raise row.error(
                    f"duplicate Utterance_ID {number} in {names}, first on line {turns[number][0]}",
                    "remove one of the two rows, or correct its id",
                )
            turns[number] = (row.line, _utterance(row, number, corpus, speaker_of))
            people.add(turns[number][1].speaker)
            if len(turns) > MOST_TURNS or len(people) > MOST_PEOPLE:
                raise row.error(
                    f"a dialogue of more than {MOST_TURNS:,} utterances or {MOST_PEOPLE} people",
                    "restore the ids of the dialogues from the original release",
                )
        yield Dialogue(
            corpus=corpus,
            split=split,
            dialogue_id="_".join((split, *map(str, dialogue))),
            utterances=tuple(turns[number][1] for number in sorted(turns)),
        )


def _utterance(row: Row, number: int, corpus: str, speaker_of: Callable[[Row], str]) -> Utterance:
    text = clean_text(row.cells["Utterance"], row.path, row.line)
    if not text:
        raise row.error("empty utterance", "fill in the text, or remove the row")
    return Utterance(str(number), speaker_of(row), text, corpus_label(row, "Emotion", corpus))
