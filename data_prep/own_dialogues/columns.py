"""Which column of a user's file is which: by its name, or by what the user says (FIELDS)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from data_prep.corpora.errors import DataError

#: What a column can be -> the names that say so, whatever their case; ``_``, ``-`` and spaces are the same.
NAMES: dict[str, tuple[str, ...]] = {
    "text": ("text", "utterance", "sentence", "message"),
    "speaker": ("speaker", "speaker_name", "author"),
    "dialogue": ("dialogue_id", "dialog_id", "conversation_id", "dialogue", "conversation"),
    "utterance": ("utterance_id", "turn_id"),
    "label": ("label", "emotion"),
}


def read_columns(text: str) -> dict[str, str]:
    """FIELDS as it is typed: ``text=Message,speaker=`` names a column, and leaves another one out.

    Returns:
        A key of `NAMES` -> the column's name; empty: there is none.

    Raises:
        ValueError: it is not of that form.
    """
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        role, given, name = (word.strip() for word in part.partition("="))
        if not given or role not in NAMES or role in found:
            raise ValueError(
                f"FIELDS={text!r}: {part!r} is not of the form <what>=<column>, once for each of "
                f'{", ".join(NAMES)}; write for example FIELDS="text=Message,speaker="'
            )
        found[role] = name
    if found.get("text") == "":
        raise ValueError(f"FIELDS={text!r}: there is nothing to read without text; name its column")
    return found


def choose_columns(path: Path, line: int, header: Sequence[str], asked: Mapping[str, str]) -> dict[str, str]:
    """What is found in which column.

    Args:
        path, line: where the header stands, for messages.
        header: names of the columns.
        asked: of `read_columns`; it goes before the names that are known.

    Returns:
        A key of `NAMES` -> a name in the header; without the keys that have no column.

    Raises:
        DataError: there is no column for the text, two for one thing, or not the one that is asked for.
    """
    shown = ", ".join(map(repr, header)) or "none"
    chosen = {}
    for role, names in NAMES.items():
        if role in asked:
            if asked[role] and asked[role] not in header:
                problem = f"no column {asked[role]!r} (FIELDS); there are {shown}"
                raise DataError(path, line, problem, "name one of those")
            found = [asked[role]] if asked[role] else []
        else:
            found = [name for name in header if _plain(name) in names]
        if len(found) > 1 or (found and header.count(found[0]) > 1):
            problem = f"more than one column for {role}: {', '.join(found)}"
            remedy = f'name the one that is meant, FIELDS="{role}={found[0]}"'
            if header.count(found[0]) > 1:
                problem, remedy = (
                    f"{header.count(found[0])} columns are named {found[0]!r}",
                    "rename all but one",
                )
            raise DataError(path, line, problem, remedy)
        if found:
            chosen[role] = found[0]
    if "text" not in chosen:
        problem = f"no column for the text ({', '.join(NAMES['text'])}); there are {shown}"
        remedy = 'say which one it is, FIELDS="text=<name>"; where this line is no header, write one above it'
        raise DataError(path, line, problem, remedy)
    return chosen


def late_column(
    chosen: Mapping[str, str], asked: Mapping[str, str]
) -> Callable[[Iterable[str], Sequence[str]], str | None]:
    """What finds, among the names of a later row, one that the header lacks and that says what a column is.

    Args:
        chosen: of `choose_columns`.
        asked: of `read_columns`; what is left out there, or has another column, is not missed.
    """
    missing = {name for role, names in NAMES.items() if role not in {*chosen, *asked} for name in names}
    return lambda names, header: next(
        (name for name in names if name not in header and _plain(name) in missing), None
    )


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", "_", name.strip()).casefold()
