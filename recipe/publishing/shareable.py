"""Which rows of B may be passed on: those with no text of a corpus whose licence forbids it.

A row stays out if it is of such a corpus, if the chain of self-play that it grew from began with a row of
one, if that chain cannot be followed, or if a line of one stands anywhere in it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.leakage import MIN_CHARACTERS, normalised

Row = Mapping[str, Any]
OF_CORPUS = "of the corpus"
GROWN = "grown by self-play from a row of the corpus"
HOLDS = "with a line of the corpus in it"
UNKNOWN = "whose origin cannot be followed"
#: Words by which a line is looked for; then all of it is compared.
_FIRST = 4


def shareable(
    rows: Sequence[Row], folder: Path, closed: Iterable[str]
) -> tuple[list[Row], Counter[tuple[str, str]]]:
    """Divide B.

    Args:
        rows: of B.
        folder: of the run, whose ``data/`` and self-play say where a row comes from.
        closed: corpora that may not be passed on.

    Returns:
        The rows that may be, and how many may not: (corpus, reason) -> rows; each is counted once, by the
        first reason that is true of it.
    """
    closed = set(closed)
    if not closed:
        return list(rows), Counter()
    origins = _Origins(folder, rows)
    lines = _Lines(_texts_of(folder, closed))
    kept, left_out = [], Counter[tuple[str, str]]()
    for row in rows:
        corpora = origins.of(row)
        if row["data_source"] in closed:
            reason = GROWN if row["extra_info"]["origin"] == "self_play" else OF_CORPUS
            left_out[row["data_source"], reason] += 1
        elif corpora is None:
            left_out[row["data_source"], UNKNOWN] += 1
        elif found := sorted(corpora & closed):
            left_out[found[0], GROWN] += 1
        elif corpus := next(filter(None, map(lines.found_in, texts(row))), None):
            left_out[corpus, HOLDS] += 1
        else:
            kept.append(row)
    return kept, left_out


def holds_closed_line(text: str, folder: Path, closed: Iterable[str]) -> bool:
    """Does a longer line of a closed corpus, of those that a run has read, stand in a text?"""
    return _Lines(_texts_of(folder, set(closed))).found_in(text) is not None


class _Origins:
    """The corpora that a row's text may come from, by the rows that it grew from."""

    def __init__(self, folder: Path, rows: Sequence[Row]):
        self.known: dict[str, tuple[str, str | None]] = {}
        for pattern in (
            "iter_*/self_play/played_*.parquet",
            "iter_*/buffer/buffer.parquet",
            "data/train.parquet",
        ):
            for path in sorted(
                folder.glob(pattern)
            ):  # what a later draw has left out of B has children there
                self._add(pq.read_table(path, columns=["data_source", "extra_info"]).to_pylist())
        self._add(rows)

    def _add(self, rows: Iterable[Row]) -> None:
        for row in rows:
            info = row["extra_info"]
            parent = info["parent"] if info["origin"] == "self_play" else None
            self.known[info["row_id"]] = row["data_source"], parent

    def of(self, row: Row) -> set[str] | None:
        """The corpora of a row and of all that it grew from; None where the chain breaks off."""
        corpora, info = {row["data_source"]}, row["extra_info"]
        parent = info["parent"] if info["origin"] == "self_play" else None
        if info["origin"] == "self_play" and parent is None:
            return None
        seen: set[str] = set()
        while parent is not None:
            if parent in seen or parent not in self.known:
                return None
            seen.add(parent)
            corpus, parent = self.known[parent]
            corpora.add(corpus)
        return corpora


class _Lines:
    """Lines of closed corpora that can be looked for in any text, whatever the case and the typography."""

    def __init__(self, lines: Iterable[tuple[str, str]]):
        self.by_start: dict[tuple[str, ...], list[tuple[list[str], str]]] = {}
        for corpus, line in lines:
            words = normalised(line).split()
            self.by_start.setdefault(tuple(words[:_FIRST]), []).append((words, corpus))
        self.lengths = sorted({len(start) for start in self.by_start})

    def found_in(self, text: str) -> str | None:
        """The corpus of a line that stands in a text; None if there is none."""
        words = normalised(text).split()
        for i in range(len(words)):
            for length in self.lengths:
                for line, corpus in self.by_start.get(tuple(words[i : i + length]), ()):
                    if words[i : i + len(line)] == line:
                        return corpus
        return None


def _texts_of(folder: Path, closed: set[str]) -> Iterator[tuple[str, str]]:
    """(corpus, line) for every longer line of closed corpora that the run has read, each once."""
    found: set[tuple[str, str]] = set()
    for split in ("train", "dev", "test", "held_out"):
        if (path := folder / f"data/{split}.parquet").is_file():
            for row in pq.read_table(path, columns=["data_source", "extra_info"]).to_pylist():
                if row["data_source"] in closed:
                    found |= {(row["data_source"], turn["text"]) for turn in row["extra_info"]["context"]}
    return (one for one in sorted(found) if len(one[1]) >= MIN_CHARACTERS)


def texts(row: Row) -> Iterator[str]:
    """Everything in a row that somebody wrote."""
    info = row["extra_info"]
    yield from (turn["text"] for turn in info["context"])
    yield from (message["content"] for message in row["prompt"])
    yield from (persona["profile"] for persona in (info["persona"], *info["personas"]))
    yield info["theme"] or ""
    yield row["response"] or ""
