"""What `make annotate` was asked for, as it is kept beside the answers, so that none stands for another's."""

from __future__ import annotations

import hashlib
import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from data_prep.files import write_json
from data_prep.own_dialogues.read import Overview
from recipe.run.files import read_json
from rewards.labels import known_corpora
from rewards.parse import MAX_LABEL_CHARS, has_visible

#: What no label may hold: it stands in a prompt's list, and in quotes in an answer's dictionary.
_FORBIDDEN = frozenset("<>{}\\")
_NAME = "task.json"


@dataclass(frozen=True)
class Task:
    """A file, a checkpoint, and how the one is read to the other.

    Attributes:
        source: the file.
        labels: the list that utterances are read with, in its order.
        columns: which column is which, as `data_prep.own_dialogues.columns.read_columns` has it.
        together, utterances, dialogues, labelled: of the file's `Overview`.
        model: folder or hub id of the checkpoint.
        of: whatever decides an answer: checksums, and settings by name.
    """

    source: str
    labels: tuple[str, ...]
    columns: Mapping[str, str]
    together: bool
    utterances: int
    dialogues: int
    labelled: int
    model: str
    of: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What answers are answers of, in a word."""
        return hashlib.sha256(json.dumps(self.of, sort_keys=True).encode()).hexdigest()[:16]

    def write(self, folder: Path) -> None:
        """Keep it in the folder of its answers."""
        write_json(folder / _NAME, asdict(self))


def new_task(
    source: Path,
    labels: Sequence[str],
    columns: Mapping[str, str],
    found: Overview,
    model: str,
    of: Mapping[str, Any],
) -> Task:
    """A task from what was asked for and what the file holds."""
    return Task(
        source=str(source.resolve()),
        labels=tuple(labels),
        columns=dict(columns),
        together=found.together,
        utterances=found.utterances,
        dialogues=found.dialogues,
        labelled=found.labelled,
        model=model,
        of=dict(of),
    )


def read_task(folder: Path) -> Task:
    """The task that a folder's answers belong to.

    Raises:
        ValueError: there is none, or its file is broken.
    """
    remedy = f"delete {folder} and run the command again"
    found = read_json(folder / _NAME, remedy=remedy)
    try:
        return Task(**{**found, "labels": tuple(found["labels"])})
    except (TypeError, KeyError):
        raise ValueError(f"{folder / _NAME}: no task of make annotate; {remedy}") from None


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names of what decides an answer and is not the same in both."""
    return [name for name in {**before, **now} if before.get(name) != now.get(name)]


def read_labels(text: str | None, default: str) -> tuple[str, ...]:
    """LABELS as it is typed: the name of a corpus, or labels with commas between them.

    Args:
        text: what was typed; None: the corpus ``default``.

    Raises:
        ValueError: it is no list of two labels or more that a prompt and an answer can hold.
    """
    name, corpora = (text or default).strip(), known_corpora()
    if name.casefold() in corpora:
        return corpora[name.casefold()]
    labels = tuple(label.strip() for label in name.split(","))
    said = f"LABELS={name[:200]!r}"
    if len(labels) < 2:
        raise ValueError(
            f'{said} is one word and no corpus; name labels, LABELS="calm,worried,glad", or one of '
            f"{', '.join(corpora)}"
        )
    if named := [label for label in labels if label.casefold() in corpora]:
        raise ValueError(
            f"{said} names the corpus {named[0]} among others; the labels of one are taken at a time"
        )
    known: dict[str, str] = {}
    for label in labels:
        seen = has_visible(label) and label.isprintable() and len(label) <= MAX_LABEL_CHARS
        if not seen or _FORBIDDEN & set(label):
            raise ValueError(
                f"{said}: {label!r} is no label; one has 1 to {MAX_LABEL_CHARS} printed characters and none "
                f"of {' '.join(sorted(_FORBIDDEN))}"
            )
        same = unicodedata.normalize("NFKC", label).casefold()
        if same in known:
            raise ValueError(f"{said}: {known[same]!r} and {label!r} are the same; keep one of them")
        known[same] = label
    return labels
