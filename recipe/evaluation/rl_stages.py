"""The RL stages of a run: their prompts, their groups in numbers, and where the rollouts are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_prep.rows import read_rows
from recipe.evaluation.circularity import Group, describe_group
from recipe.run.files import in_iterations, read_json


@dataclass
class RlStage:
    """One RL stage: its prompts, every group in numbers, and where the groups' rollouts are.

    Attributes:
        rows: row_id -> prompt.
        groups: in step order.
        places: the file and the uid of each group.
        best: row_id -> (step, rollout index) of the rollout that enters B.
        problems: files that could not be read, in words.
    """

    name: str
    rows: dict[str, dict[str, Any]]
    groups: list[Group] = field(default_factory=list)
    places: list[tuple[Path, str]] = field(default_factory=list)
    best: dict[str, tuple[int, int]] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def read_rl_stages(folder: Path) -> list[RlStage]:
    """The RL stages that are done, a step's file at a time: answers are long, and there are many."""
    stages = []
    for _, path in in_iterations(folder, "rl"):
        name = f"{path.parent.name}/rl"
        if not (path / "train.parquet").is_file():
            stages.append(
                RlStage(name, {}, problems=[f"{name} has no train.parquet, so no rollout is shown"])
            )
            continue
        stage = RlStage(name, {row["extra_info"]["row_id"]: row for row in read_rows(path / "train.parquet")})
        for file in sorted((path / "rollouts").glob("step_*.parquet")):
            try:
                groups = list(groups_of(file, without=("response",)))
            except (pa.ArrowException, OSError) as error:
                stage.problems.append(f"{name}/rollouts/{file.name} cannot be read: {error}")
                continue
            for uid, rollouts in groups:
                row_id = rollouts[0]["row_id"]
                if row_id not in stage.rows:
                    raise ValueError(
                        f"{file}: {row_id} is not in {name}/train.parquet; is it of another run?"
                    )
                stage.groups.append(describe_group(rollouts, stage.rows[row_id]))
                stage.places.append((file, uid))
        steps = read_json(path / "counts.json", {}).get("steps", 0)
        if (missing := steps - len(list((path / "rollouts").glob("step_*.parquet")))) > 0:
            stage.problems.append(f"{name}/rollouts lacks {missing} of {steps} steps; the others are shown")
        stage.best = _entered(path.parent)
        if not stage.groups:
            stage.problems.append(f"{name} has no rollouts")
        stages.append(stage)
    return stages


def _entered(iteration: Path) -> dict[str, tuple[int, int]]:
    """row_id -> (step, rollout index) of the rollouts of this iteration that B holds as responses."""
    path = iteration / "buffer/buffer.parquet"
    if not path.is_file():
        return {}
    number = int(iteration.name.removeprefix("iter_"))
    columns = ["extra_info.row_id", "response_from"]
    found = {}
    for row in pq.ParquetFile(path).read(columns=columns).to_pylist():
        source = row["response_from"] or {}
        if source.get("source") == "rollout" and source["iteration"] == number:
            found[row["extra_info"]["row_id"]] = (source["step"], source["rollout_index"])
    return found


def first_and_last_quarter(steps: Iterable[int]) -> tuple[set[int], set[int]] | None:
    """The early and the late steps of a stage, a step each at least; None for less than two."""
    ordered = sorted(set(steps))
    if len(ordered) < 2:
        return None
    quarter = max(len(ordered) // 4, 1)
    return set(ordered[:quarter]), set(ordered[-quarter:])


def groups_of(file: Path, without: tuple[str, ...] = ()) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The groups of one step's file, as (uid, rollouts); ``without`` names columns that are not wanted."""
    columns = [name for name in pq.read_schema(file).names if name not in without]
    by_uid: dict[str, list[dict[str, Any]]] = {}
    for rollout in pq.read_table(file, columns=columns).to_pylist():
        by_uid.setdefault(rollout["uid"], []).append(rollout)
    yield from by_uid.items()
