"""Tables of utterances as files: Parquet or JSON lines, with their splits, columns and names of class ids."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_prep import strict_json
from data_prep.corpora.dialogue import MOST_BYTES, DataError, text_lines

NAMES_FILE = "label_names.json"
#: What the columns may be called, the first that is there; a dialogue may be named by several together.
COLUMNS: dict[str, tuple[tuple[str, ...], ...]] = {
    "text": (("utterance",), ("text",), ("sentence",), ("utterances",), ("dialog",)),
    "label": (("emotion",), ("label",), ("emotions",), ("labels",)),
    "speaker": (("speaker",), ("speakers",)),
    "dialogue": (("dialogue_id",), ("dialog_id",), ("conversation_id",), ("season", "episode", "scene_id")),
    "turn": (("utterance_id",), ("turn_id",)),
    "split": (("split",),),
}
_SPLIT_NAMES = {
    "train": "train",
    "dev": "dev",
    "validation": "dev",
    "valid": "dev",
    "val": "dev",
    "test": "test",
}
_ENDINGS = (".parquet", ".jsonl")
_SPLIT_OF_FILE = re.compile(rf"({'|'.join(_SPLIT_NAMES)})(?![a-z])", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row: where it stands (JSON lines: its line), its cells by kind of column, the names of class ids.

    What several columns name together is a tuple.
    """

    path: Path
    number: int
    cells: Mapping[str, Any]
    names: Sequence[str] | None

    def error(self, problem: str, remedy: str) -> DataError:
        """The error that names this row."""
        if self.path.suffix == ".parquet":
            return DataError(self.path, None, f"row {self.number}: {problem}", remedy)
        return DataError(self.path, self.number, problem, remedy)


@dataclass(frozen=True, slots=True)
class Table:
    """A file.

    Attributes:
        path: where it is.
        split: of all its rows; None: each row names its own.
        columns: kind (a key of `COLUMNS`) -> the columns of that kind; kinds that it has not are not there.
        names: of class ids, in their order; None where nobody says.
    """

    path: Path
    split: str | None
    columns: Mapping[str, tuple[str, ...]]
    names: Sequence[str] | None

    def rows(self, split: str) -> Iterator[TableRow]:
        """The rows of a split, one after the other.

        Raises:
            DataError: a line is no JSON object, or a row names a split that there is not.
        """
        if self.split not in (None, split):
            return
        wanted = sorted({name for names in self.columns.values() for name in names})
        others = {c[0] for kind, choices in COLUMNS.items() if kind not in self.columns for c in choices}
        rows = _parquet_rows(self.path, wanted) if self.path.suffix == ".parquet" else _json_rows(self.path)
        for number, row in rows:
            cells = {}
            for kind, names in self.columns.items():
                values = [row.get(name) for name in names]
                cells[kind] = values[0] if len(values) == 1 else tuple(values)
            found = TableRow(self.path, number, cells, self.names)
            if late := next((name for name in row if name.casefold() in others), None):
                problem = f"{late!r} stands in no row before, so that it is not read"
                raise found.error(problem, "name it in the first row, too, with null where there is nothing")
            said = _SPLIT_NAMES.get(str(cells.get("split")).casefold())
            if self.split and said not in (None, self.split):
                problem = f"split {cells['split']!r} in a file of the {self.split} split"
                raise found.error(problem, "move the row, or rename the file")
            if self.split or _split_of(found) == split:
                yield found


def tables_in(root: Path, needed: Sequence[str]) -> list[Table]:
    """The tables of a folder and of ``data/`` in it, in the order of their names.

    Args:
        root: the folder.
        needed: kinds of columns that every table must have.

    Raises:
        DataError: a file cannot be read, or a column is missing.
    """
    files = [path for folder in (root, root / "data") for path in sorted(folder.glob("*"))]
    return [_open(root, path, needed) for path in files if path.suffix in _ENDINGS and path.is_file()]


def _open(root: Path, path: Path, needed: Sequence[str]) -> Table:
    match = _SPLIT_OF_FILE.match(path.name)
    split = _SPLIT_NAMES[match[1].lower()] if match else None
    header, names = _parquet_header(path) if path.suffix == ".parquet" else _json_header(path)
    by_name = {name.casefold(): name for name in header}
    columns = {
        kind: tuple(by_name[name] for name in choice)
        for kind, choices in COLUMNS.items()
        for choice in reversed(choices)  # the first that is there is kept
        if all(name in by_name for name in choice)
    }
    doubled = [name for name in header if [*map(str.casefold, header)].count(name.casefold()) > 1]
    if used := [name for name in doubled if any(by_name[name.casefold()] in n for n in columns.values())]:
        raise DataError(path, None, f"more than one column {used[0].casefold()}", "keep one of them")
    missing = [kind for kind in (*needed, *([] if split else ["split"])) if kind not in columns]
    if missing:
        known = " or ".join("+".join(choice) for choice in COLUMNS[missing[0]])
        problem = f"no column for the {missing[0]} among {', '.join(header)}"
        also = ", or begin the file's name with its split" if missing[0] == "split" else ""
        raise DataError(path, None, problem, f"call it {known}{also}")
    beside = next((p for p in (path.parent / NAMES_FILE, root / NAMES_FILE) if p.is_file()), None)
    known_names = names.get(columns["label"][0]) if beside is None else _names(beside)
    return Table(path, split, columns, known_names)


def _parquet_header(path: Path) -> tuple[list[str], dict[str, Sequence[str]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        schema = pq.read_schema(path)
    except (pa.ArrowException, OSError) as error:
        raise DataError(path, None, f"no Parquet file ({error})", "fetch the file again") from error
    try:
        features = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
    except (ValueError, KeyError, TypeError):  # not written by `datasets`
        features = {}
    return schema.names, {name: found for name in features if (found := _class_names(features[name]))}


def _class_names(feature: Any) -> list[str] | None:
    """The names of a ClassLabel, which may stand in a list."""
    if isinstance(feature, list) and feature:
        return _class_names(feature[0])
    if isinstance(feature, dict):
        names = feature.get("names")
        return (
            [str(name) for name in names] if isinstance(names, list) else _class_names(feature.get("feature"))
        )
    return None


def _json_header(path: Path) -> tuple[list[str], dict[str, Sequence[str]]]:
    first = next((row for _, row in _json_rows(path)), None)
    if first is None:
        raise DataError(path, None, "the file is empty", "fetch the file again")
    return list(first), {}


def _names(path: Path) -> list[str]:
    text = "".join(line for _, line in text_lines(path, most=MOST_BYTES))
    try:
        names = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(
            path, getattr(error, "lineno", None), f"not JSON ({error})", names_remedy(path)
        ) from error
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise DataError(path, None, "no list of names", names_remedy(path))
    plain = [name.strip().casefold() for name in names]
    if doubled := next((name for i, name in enumerate(plain) if name in plain[:i]), None):
        raise DataError(path, None, f"{doubled!r} is the name of two class ids", names_remedy(path))
    return names


def names_remedy(path: Path) -> str:
    """What to do where the names of class ids are not known; ``path`` is that of `NAMES_FILE`."""
    return f'write the labels in the order of their class ids into {path}, such as ["anger", "joy"]'


def _parquet_rows(path: Path, columns: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        for batch in pq.ParquetFile(path, pre_buffer=False).iter_batches(2_000, columns=columns):
            for row in batch.to_pylist():
                number += 1
                yield number, row
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        problem = f"cannot be read behind row {number} ({error})"
        raise DataError(path, None, problem, "fetch the file again") from error


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in text_lines(path, most=MOST_BYTES):
        if not line.strip():
            continue
        try:
            row = strict_json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(path, number, f"not JSON ({error})", "write one object a line") from error
        if not isinstance(row, dict):
            raise DataError(path, number, "no JSON object", "write one object a line")
        yield number, row


def _split_of(row: TableRow) -> str:
    split = _SPLIT_NAMES.get(str(row.cells["split"]).casefold())
    if split is None:
        raise row.error(f"unknown split {row.cells['split']!r}", f"write one of {', '.join(_SPLIT_NAMES)}")
    return split
