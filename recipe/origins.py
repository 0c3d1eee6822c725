"""Where everything in B comes from: every response and every new prompt, back to the rollout that it was.

A row of B says which iteration, step, turn and rollout made it (Algorithm 1, lines 11-16). Here what it says
is held against what the stages recorded.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.rows import ground_truth, read_rows
from recipe.models import weights
from recipe.run.files import in_iterations
from rewards.iou import label_from_feelings
from rewards.parse import spoken


@dataclass(frozen=True)
class _Claim:
    """That a row comes from one answer.

    Attributes:
        place: of the row: its buffer and its id.
        file: where the answer was recorded, below the run's folder.
        answer: the prompt's row_id, and which of its answers.
        fields: what the record must hold.
        labels: of the corpus.
    """

    place: str
    file: str
    answer: tuple[str, int]
    fields: Mapping[str, Any]
    labels: Sequence[str]


def lineage_problems(run: Path) -> Iterator[str]:
    """What in the buffers of a run does not come from where it says.

    Args:
        run: the run's folder.

    Yields:
        A line for each: the buffer and the row, or the file that is missing; what is wrong.
    """
    given = {row["extra_info"]["row_id"]: row for row in read_rows(run / "data/train.parquet")}
    digests = {f"iter_{k}": weights.digest(path) for k, path in in_iterations(run, "rl/model")}
    claims: dict[str, list[_Claim]] = defaultdict(list)
    experts: dict[str, str] = {}
    for k, path in in_iterations(run, "buffer/buffer.parquet"):
        rows = read_rows(path)
        if k == 0:
            experts = {row["extra_info"]["row_id"]: row["response"] for row in rows}
        for row in rows:
            place = f"{path.relative_to(run)}, {row['extra_info']['row_id']}"
            for claim in _claims(row, place):
                claims[claim.file].append(claim)
            yield from (f"{place}: {problem}" for problem in _own_problems(row, given, experts, digests))
    for file in sorted(claims):
        yield from _against_records(run / file, claims[file])


def _claims(row: Mapping[str, Any], place: str) -> Iterator[_Claim]:
    info, source = row["extra_info"], row["response_from"] or {}
    if source.get("source") in ("rollout", "self_play"):
        turn = info["turn"] if source["source"] == "self_play" else None
        file = _recorded(source["iteration"], source["step"], turn)
        fields = {"response": row["response"], "score": source["reward"], "r2": source["r2"]}
        yield _Claim(place, file, (info["row_id"], source["rollout_index"]), fields, info["labels"])
    if info["origin"] == "self_play":
        file = _recorded(info["iteration"], info["step"], info["turn"] - 1 or None)
        fields = {"reply": info["context"][-1]["text"], "label": ground_truth(row)}
        fields |= {"score": info["reward"], "r2": info["r2"]}
        yield _Claim(place, file, (info["parent"], info["rollout_index"]), fields, info["labels"])


def _recorded(iteration: int, step: int | None, turn: int | None) -> str:
    """The file of an RL step's rollouts, or of a turn's answers."""
    if turn is None:
        return f"iter_{iteration}/rl/rollouts/step_{step or 0:06d}.parquet"
    return f"iter_{iteration}/self_play/samples_{turn}.parquet"


def _own_problems(
    row: Mapping[str, Any],
    given: Mapping[str, Mapping[str, Any]],
    experts: Mapping[str, str],
    digests: Mapping[str, str],
) -> Iterator[str]:
    info, source = row["extra_info"], row["response_from"] or {}
    if info["origin"] == "original":
        original = given.get(info["row_id"])
        if original is None:
            yield "it is said to be an original row, and data/train.parquet has none of that id"
        elif original["extra_info"]["context"] != info["context"] or ground_truth(original) != ground_truth(
            row
        ):
            yield "its dialogue or label is not that of data/train.parquet"
    of_expert = row["response"] is not None and source.get("source") not in ("rollout", "self_play")
    if of_expert and experts.get(info["row_id"]) != row["response"]:
        yield "its response is not the one that iter_0/buffer has from the expert"
    for made in (info if info["origin"] == "self_play" else {}, source):
        there = digests.get(f"iter_{made.get('iteration')}")
        if made.get("model") and there and made["model"] != there:
            yield f"it was made by the model {made['model']}; iter_{made['iteration']}/rl/model is {there}"


def _against_records(path: Path, claims: Sequence[_Claim]) -> Iterator[str]:
    columns = ["row_id", "rollout_index", "response", "score", "r2", "parsed"]
    try:
        records = pq.read_table(path, columns=columns).to_pylist()
    except (pa.ArrowException, OSError) as error:
        reason = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
        yield f"{path} {reason}, and {len(claims)} of B's rows come from it"
        return
    found = {(record["row_id"], record["rollout_index"]): record for record in records}
    for claim in claims:
        record = found.get(claim.answer)
        if record is None:
            yield f"{claim.place}: {path.name} has no answer {claim.answer[1]} to {claim.answer[0]}"
            continue
        parsed = json.loads(record["parsed"])
        label = label_from_feelings(parsed["my_emotions"], claim.labels)
        there = record | {"reply": spoken(parsed["my_output"]), "label": label}
        if wrong := [name for name, value in claim.fields.items() if there[name] != value]:
            yield f"{claim.place}: its {' and '.join(wrong)} is not that of the answer in {path.name}"
