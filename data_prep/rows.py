"""One row per prompt, in the form that veRL's RL dataset reads, from Parquet to Parquet.

A row is a prompt x = (C, PI, labels) with its label; in the buffer it may also carry the best known
response. `extra_info` holds what the prompt was rendered from, so that a row can be rendered again
(a longer context, another tokenizer) and continued by self-play, and the row's lineage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.files import commit, part_of
from rewards.labels import heaviest, known_corpora

_ALL_LABELS = sorted({label for labels in known_corpora().values() for label in labels})
_TURN = pa.struct([("speaker", pa.string()), ("text", pa.string())])
_PERSONA = pa.struct([("name", pa.string()), ("profile", pa.string())])

SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        (
            "reward_model",
            pa.struct(
                [
                    ("style", pa.string()),
                    ("ground_truth", pa.struct([(label, pa.float64()) for label in _ALL_LABELS])),
                ]
            ),
        ),
        (
            "extra_info",
            pa.struct(
                [
                    ("row_id", pa.string()),
                    ("index", pa.int64()),
                    ("split", pa.string()),
                    ("dialogue_id", pa.string()),
                    ("utterance_id", pa.string()),
                    ("speaker", pa.string()),  # who spoke last: whose emotions are recognised
                    ("persona", _PERSONA),  # whom the model plays
                    ("labels", pa.list_(pa.string())),
                    ("context", pa.list_(_TURN)),
                    ("theme", pa.string()),  # of the dialogue, from experts; empty if unknown
                    ("personas", pa.list_(_PERSONA)),  # of everybody in the dialogue
                    ("origin", pa.string()),  # original | self_play
                    ("iteration", pa.int64()),
                    ("turn", pa.int64()),  # of this iteration's self-play: 1 goes on from an RL rollout
                    ("parent", pa.string()),  # row_id of the prompt that a self-play row continues
                    ("rollout_index", pa.int64()),
                    ("step", pa.int64()),
                    ("reward", pa.float64()),
                    ("r2", pa.float64()),
                    ("model", pa.string()),
                ]
            ),
        ),
        ("response", pa.string()),
        (
            "response_from",  # lineage of the response; null where there is none
            pa.struct(
                [
                    ("source", pa.string()),  # rollout, self_play, or the expert's name
                    ("iteration", pa.int64()),
                    ("step", pa.int64()),
                    ("rollout_index", pa.int64()),
                    ("reward", pa.float64()),
                    ("r2", pa.float64()),
                    ("model", pa.string()),
                ]
            ),
        ),
    ]
)


def make_row(
    *,
    corpus: str,
    prompt: list[dict[str, str]],
    ground_truth: Mapping[str, float],
    row_id: str,
    split: str,
    dialogue_id: str,
    utterance_id: str,
    context: Sequence[Mapping[str, str]],
    persona: Mapping[str, str],
    personas: Sequence[Mapping[str, str]],
    labels: Sequence[str],
    theme: str = "",
    response: str | None = None,
    lineage: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A row of `SCHEMA`; ``lineage`` fills the fields from ``origin`` on (default: an original row)."""
    return {
        "data_source": corpus,
        "prompt": prompt,
        "reward_model": {"style": "rule", "ground_truth": dict(ground_truth)},
        "extra_info": {
            "row_id": row_id,
            "index": 0,
            "split": split,
            "dialogue_id": dialogue_id,
            "utterance_id": utterance_id,
            "speaker": context[-1]["speaker"],
            "persona": dict(persona),
            "labels": list(labels),
            "context": [dict(turn) for turn in context],
            "theme": theme,
            "personas": [dict(p) for p in personas],
            "origin": "original",
            "iteration": 0,
            **(lineage or {}),
        },
        "response": response,
        "response_from": None,
    }


def ground_truth(row: Mapping[str, Any]) -> dict[str, float]:
    """A row's label as label -> weight, without the empty fields of the Parquet struct."""
    return {k: v for k, v in row["reward_model"]["ground_truth"].items() if v is not None}


def gold_label(row: Mapping[str, Any]) -> str:
    """The heaviest label of a row.

    Raises:
        ValueError: the row has no label.
    """
    label = heaviest(ground_truth(row), row["extra_info"]["labels"])
    if label is None:
        raise ValueError(f"row {row['extra_info']['row_id']} has no label; prepare the data again")
    return label


#: Rows held as Python objects, and how many times as many (then Arrow's, far smaller) make a row group:
#: writer and reader hold some 50 kB for every row group of a file.
_CHUNK, _CHUNKS = 2_000, 5


def write_rows(rows: Iterable[dict[str, Any]], path: str | Path, chunk: int = _CHUNK) -> int:
    """Write rows to Parquet in chunks, under the final name only when all are there.

    Returns:
        The number of rows.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    count = 0

    def tables() -> Iterator[pa.Table]:
        nonlocal count
        pending = []
        for row in rows:
            row["extra_info"]["index"] = count
            count += 1
            pending.append(row)
            if len(pending) == chunk:
                yield pa.Table.from_pylist(pending, schema=SCHEMA)
                pending.clear()
        if pending:
            yield pa.Table.from_pylist(pending, schema=SCHEMA)

    with pq.ParquetWriter(part, SCHEMA, compression="zstd") as writer:
        chunks = tables()
        while group := list(islice(chunks, _CHUNKS)):
            writer.write_table(pa.concat_tables(group))
    commit(part, path)
    return count


def write_records(
    records: Sequence[Mapping[str, Any]], path: Path, about: Mapping[str, str] | None = None
) -> None:
    """Commit records of any fields (rollouts, answers) to Parquet; ``about`` goes into the metadata."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    pq.write_table(pa.Table.from_pylist(list(records)).replace_schema_metadata(about), part)
    commit(part, path)


def read_rows(path: str | Path) -> list[dict[str, Any]]:
    """All rows of a Parquet file of `SCHEMA` (or of some of its columns)."""
    return pq.read_table(path).to_pylist()
