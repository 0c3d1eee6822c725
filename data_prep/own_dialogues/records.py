"""The rows of a user's CSV, JSON-lines or text file, one after the other, with the line where each stands."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from data_prep import strict_json
from data_prep.corpora.dialogue import BARE_CR, NO_UTF8, packed, text_lines, to_utf8, utf16
from data_prep.corpora.errors import DataError
from data_prep.own_dialogues.columns import choose_columns, late_column

#: Endings of files -> how they are read.
FORMS = {".csv": "csv", ".tsv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".txt": "txt"}
#: Bytes of a line: far above what anybody says, and a bound on the memory that a broken file takes.
_MOST_BYTES = 1_000_000
#: What separates the fields of a CSV file; spreadsheets of many countries write the second.
_SEPARATORS = (",", ";", "\t")
#: ``Name: what is said``. A name has no mark that ends a sentence, and is not the http of an address.
_SAID_BY = re.compile(r"([^:\uff1a.!?;,\"]{1,40})(?::\s+|\uff1a\s*)(\S.*)")


@dataclass(frozen=True, slots=True)
class Record:
    """A row: its line (the last one, where a field has several), and its cells by key of `columns.NAMES`."""

    line: int
    cells: Mapping[str, str]


@dataclass(frozen=True)
class Records:
    """What `read_records` finds out from the beginning of a file.

    Attributes:
        columns: key of `columns.NAMES` -> the column's name; of a text file the keys themselves.
        unused: the other columns.
        rows: all of them, read when they are asked for.
    """

    columns: Mapping[str, str]
    unused: Sequence[str]
    rows: Iterator[Record]


def form_of(path: Path) -> str:
    """csv, jsonl or txt, by a file's ending.

    Raises:
        DataError: it has another one.
    """
    if (form := FORMS.get(path.suffix.lower())) is None:
        remedy = f"give it the ending of what it is: {', '.join(FORMS)}"
        raise DataError(path, None, f"a file that ends in {path.suffix!r} is not read", remedy)
    return form


def check_file(path: Path) -> str:
    """The form of a file, which is there and is text as far as its beginning shows.

    Raises:
        DataError: it is no such file.
    """
    form = form_of(path)
    _check_encoding(path)
    return form


def read_records(path: Path, asked: Mapping[str, str]) -> Records:
    """Read a file row by row.

    Args:
        path: a CSV file with a header, a file of one JSON object a line, or one of text lines.
        asked: which column is which, as `columns.read_columns` has it.

    Raises:
        DataError: at the call if it is no such file, or lacks a column; on iteration if a row cannot be used.
    """
    form = check_file(path)
    if form == "txt":
        return _text(path, asked)
    return _csv(path, asked) if form == "csv" else _jsonl(path, asked)


# ---- lines ----


def _check_encoding(path: Path) -> None:
    if not path.is_file():
        problem = "this is no file" if path.exists() else "no such file"
        raise DataError(path, None, problem, "name the file with the dialogues, IN=...")
    with path.open("rb") as file:
        begin = file.read(4096)
    if not begin:
        raise DataError(path, None, "the file is empty", "name the file with the dialogues, IN=...")
    if kind := packed(begin):
        raise DataError(path, None, f"this is {kind}", "unpack it, or save it as text")
    if encoding := utf16(begin.partition(b"\n")[0]):  # a zero byte further down is a broken line
        raise DataError(path, 1, NO_UTF8, to_utf8(encoding))


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """`text_lines`, with a remedy for files that are nobody's release."""
    try:
        yield from text_lines(path, most=_MOST_BYTES)
    except DataError as error:
        if error.problem in (NO_UTF8, BARE_CR):
            raise
        encoded = "is not UTF-8" in error.problem
        remedy = f"{to_utf8('latin1')} where it is latin-1" if encoded else "mend the file"
        raise DataError(path, error.line, error.problem, remedy) from None


# ---- CSV ----


def _csv(path: Path, asked: Mapping[str, str]) -> Records:
    separator = _separator(path)
    reader = csv.reader((line for _, line in _lines(path)), delimiter=separator, strict=True)

    def rows() -> Iterator[tuple[int, list[str]]]:
        try:
            for cells in reader:
                if any(map(str.strip, cells)):
                    yield reader.line_num, cells
        except csv.Error as error:
            problem = f"broken CSV ({error})"
            raise DataError(path, reader.line_num, problem, "close and double its quotes") from None

    found = rows()
    line, header = next(found, (1, []))
    header = [name.strip() for name in header]
    chosen = choose_columns(path, line, header, asked)
    places = {role: header.index(name) for role, name in chosen.items()}

    def records() -> Iterator[Record]:
        for line, cells in found:
            if len(cells) != len(header):
                problem = f"{len(cells)} fields where the header has {len(header)}"
                raise DataError(path, line, problem, f"quote fields that hold {separator!r}")
            yield Record(line, {role: cells[place] for role, place in places.items()})

    return Records(chosen, _others(header, chosen), records())


def _separator(path: Path) -> str:
    """The separator that gives the header the most fields; a comma where it has one alone."""
    number, first = next(((number, line) for number, line in _lines(path) if line.strip()), (1, ""))
    try:
        counts = {mark: len(next(csv.reader([first], delimiter=mark), [])) for mark in _SEPARATORS}
    except csv.Error as error:  # a field of more than 131,072 characters
        raise DataError(path, number, f"no header of a CSV file ({error})", "write one") from None
    return max(counts, key=counts.__getitem__)


# ---- JSON lines ----


def _jsonl(path: Path, asked: Mapping[str, str]) -> Records:
    found = _objects(path)
    first = next(found, None)
    if first is None:
        raise DataError(path, None, "no line with an object", "write one object a line")
    header = list(first[1])
    chosen = choose_columns(path, first[0], header, asked)
    missed = late_column(chosen, asked)

    def records() -> Iterator[Record]:
        for line, content in chain([first], found):
            if (name := missed(content, header)) is not None:
                problem = f"{name!r} stands on no line before, so that it is not read"
                remedy = "name it on the first line, too, with null where there is nothing"
                raise DataError(path, line, problem, remedy)
            yield Record(line, {role: _cell(path, line, content, name) for role, name in chosen.items()})

    return Records(chosen, _others(header, chosen), records())


def _objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    remedy = 'write one object a line, such as {"dialogue_id": 1, "speaker": "Ann", "text": "Hi."}'
    for line, text in _lines(path):
        if not text.strip():
            continue
        try:
            content = strict_json.loads(text)
        except (ValueError, RecursionError) as error:
            told = isinstance(error, json.JSONDecodeError | strict_json.RepeatedKeyError)
            reason = error if told else type(error).__name__
            raise DataError(path, line, f"no JSON ({reason})", remedy) from None
        if not isinstance(content, dict):
            raise DataError(path, line, "no JSON object", remedy)
        yield line, content


def _cell(path: Path, line: int, content: Mapping[str, Any], name: str) -> str:
    """A value as text; whole numbers are ids, and what is missing or null is empty."""
    value = content.get(name)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**18:
        return str(value)
    problem = f"{name!r} is neither text nor a whole number"
    raise DataError(path, line, problem, "write it as text, in quotes")


# ---- text ----


def _text(path: Path, asked: Mapping[str, str]) -> Records:
    """Lines ``Name: what is said``, or without names; an empty line ends a dialogue."""
    header = ["text", "speaker", "dialogue"]
    if unknown := [name for name in asked.values() if name]:
        problem = f"a text file has no column {unknown[0]!r} (FIELDS)"
        raise DataError(path, None, problem, 'leave it out; FIELDS="speaker=" says that no line has a name')
    named = asked.get("speaker") != "" and _begins_with_name(path)
    chosen = {role: role for role in header if role != "speaker" or named}

    def records() -> Iterator[Record]:
        dialogue, ended = 0, True
        for line, text in _lines(path):
            said = text.strip()
            if not said:
                ended = True
                continue
            dialogue, ended = dialogue + ended, False
            # Without the ellipsis of cp1252, which `clean_text` mends and Python takes for a line end.
            if len(said.replace("\x85", "").splitlines()) > 1:
                problem = "a line end of another kind (such as a carriage return) in what would be one line"
                raise DataError(path, line, problem, "end lines with a newline")
            cells = {"text": said, "dialogue": str(dialogue)}
            if named:
                if not (match := _SAID_BY.fullmatch(said)):
                    problem = "no `Name: ` before what is said, as the first line has"
                    remedy = 'write who says it, or FIELDS="speaker=" if no line has a name'
                    raise DataError(path, line, problem, remedy)
                cells |= {"speaker": match[1].strip(), "text": match[2]}
            yield Record(line, cells)

    return Records(chosen, [], records())


def _begins_with_name(path: Path) -> bool:
    first = next((text.strip() for _, text in _lines(path) if text.strip()), "")
    return _SAID_BY.fullmatch(first) is not None


def _others(header: Sequence[str], chosen: Mapping[str, str]) -> list[str]:
    return [name for name in header if name not in chosen.values()]
