"""The prompts for a user's dialogues: those that an evaluation would ask of the same checkpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.experts import personas
from data_prep.own_dialogues.read import OwnDialogue
from data_prep.prepare import dialogue_rows
from data_prep.prompt import PromptTemplates
from recipe.run.files import read_json

#: Dialogues whose personas are asked for, and kept in one file, at a time.
PERSONAS_OF = 500

#: Dialogue key -> speaker -> sentence, as for `data_prep.prepare.dialogue_rows`.
Profiles = Mapping[str, Mapping[str, str]]


def own_rows(
    own: OwnDialogue,
    name: str,
    labels: Sequence[str],
    templates: PromptTemplates,
    profiles: Profiles | None = None,
    scope: str = "dialogue",
) -> Iterator[dict[str, Any]]:
    """A row of `data_prep.rows.SCHEMA` for every utterance, made as those of a corpus are.

    Args:
        own: the dialogue.
        name: of the file; a row is known by it and by its line.
        labels: that the prompt allows.
        templates, profiles, scope: as for `dialogue_rows`.
    """
    rows = dialogue_rows(own.dialogue, templates, profiles, scope=scope, known=labels)
    for row, line in zip(rows, own.lines, strict=True):
        row["extra_info"]["row_id"] = f"{name}, line {line}"
        yield row


def personas_path(work: Path, number: int) -> Path:
    """Where the personas of the dialogue of that number are kept, without the file's ending."""
    return work / f"personas/part_{number // PERSONAS_OF:08d}"


def read_personas(work: Path) -> Iterator[Profiles]:
    """The profiles for one dialogue after the other, without end; empty where no expert was asked."""
    number = 0
    while True:
        found = read_json(Path(f"{personas_path(work, number)}.json"), {})
        for _ in range(PERSONAS_OF):
            yield found
        number += PERSONAS_OF


def seen(own: OwnDialogue, scope: str) -> list[Any]:
    """The dialogues that experts are shown for one: itself, or its past before every utterance."""
    if scope != "past":
        return [own.dialogue]
    return [personas.seen_by(own.dialogue, i, scope) for i in range(len(own.lines))]
