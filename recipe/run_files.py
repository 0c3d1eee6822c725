"""A run's files, read for pages and tables: what is there is returned, what is broken is named."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from omegaconf import DictConfig, OmegaConf

from data_prep.rows import read_rows
from recipe.buffer import best_rollouts
from recipe.circularity import Group, describe_group
from recipe.measures import summarise

BASELINE_NAMES = {"majority": "majority class", "tfidf": "TF-IDF, logistic regression"}
CHECKPOINT_NAMES = {
    "base": "base model",
    "cold": "after cold start",
    "rl": "after RL",
    "retrained": "after retraining on B",
}
#: Everything that is scored on the test splits, in the order of the tables.
STAGE_NAMES = BASELINE_NAMES | CHECKPOINT_NAMES
#: The measures of the headline tables, and what pages and terminal call them.
MEASURE_NAMES = {
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "valid": "keeps the rule",
    "reward": "mean reward",
}


def run_folder(name: str) -> Path:
    """The folder of a run, from its path or its name below ``runs/``.

    Raises:
        ValueError: it is no run.
    """
    folder = Path(name) if Path(name).is_dir() else Path("runs") / name
    for needed in ("state.json", "config.yaml"):
        if not (folder / needed).is_file():
            raise ValueError(f"{folder}: no run, there is no {needed}; `ls runs` shows the runs")
    return folder


def read_config(folder: Path) -> DictConfig:
    """The settings that a run was begun with.

    Raises:
        ValueError: the file is broken.
    """
    path = folder / "config.yaml"
    try:
        return OmegaConf.load(path)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: no YAML ({reason}); restore it from the page's settings") from None


def read_state(folder: Path) -> dict[str, dict[str, float]]:
    """Finished step -> when it was finished, and the seconds that it took.

    Raises:
        ValueError: the file is broken.
    """
    path = folder / "state.json"
    return read_json(path, {"steps": {}}, remedy='write {"steps": {}} to it: only times are lost')["steps"]


def checkpoint_folders(folder: Path, iteration: int) -> dict[str, Path]:
    """Where a run keeps its cold start and what iteration k makes of it; they need not be there yet."""
    return {
        "cold": folder / "iter_0/sft/model",
        "rl": folder / f"iter_{iteration}/rl/model",
        "retrained": folder / f"iter_{iteration}/sft/model",
    }


def read_json(path: Path, default: Any = None, remedy: str = "delete its folder and resume the run") -> Any:
    """The content of a JSON file, or ``default`` where there is none.

    Raises:
        ValueError: the file is broken; the message ends with the ``remedy``.
    """
    if not path.exists():
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error}); {remedy}") from None


def missing_records(folder: Path) -> list[str]:
    """What to say of checkpoints that have measures, but not the answers that these are from."""
    return [
        f"eval/{stage}/records.json is missing, and with it the intervals and tests of it: delete "
        f"eval/{stage} and resume the run, which scores the answers again"
        for stage in STAGE_NAMES
        if (folder / f"eval/{stage}").is_dir() and not (folder / f"eval/{stage}/records.json").is_file()
    ]


def read_evaluation(folder: Path, name: str) -> dict[str, Any]:
    """stage -> content of ``eval/<stage>/<name>.json``, for the stages that have it, in order."""
    paths = {stage: folder / f"eval/{stage}/{name}.json" for stage in STAGE_NAMES}
    return {stage: read_json(path) for stage, path in paths.items() if path.exists()}


def read_summaries(folder: Path, records: dict[str, list[dict]]) -> dict[str, dict[str, Any]]:
    """stage -> measures; a summary of an older run gets what it lacks from the records."""
    return {
        stage: table if "ece" in table["avg"] or stage not in records else summarise(records[stage])
        for stage, table in read_evaluation(folder, "summary").items()
    }


def read_metrics(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Metrics per stage, in step order; a resumed stage's repeated steps count once, the later wins."""
    stages = {}
    for path in sorted(folder.glob("iter_*/*/metrics.jsonl")):
        by_step: dict[int, dict] = {}
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            try:
                entry = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: no JSON ({error}); remove the line") from None
            by_step.setdefault(entry["step"], {}).update(entry["data"])
        stages[f"{path.parent.parent.name}/{path.parent.name}"] = [
            {"step": step, "data": by_step[step]} for step in sorted(by_step)
        ]
    return stages


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


def read_rl_stages(folder: Path, min_reward: float) -> list[RlStage]:
    """The RL stages that are done, a step's file at a time: answers are long, and there are many."""
    stages = []
    for path in sorted(folder.glob("iter_*/rl"), key=lambda p: int(p.parent.name.removeprefix("iter_"))):
        name = f"{path.parent.name}/rl"
        if not (path / "train.parquet").is_file():
            stages.append(
                RlStage(name, {}, problems=[f"{name} has no train.parquet, so no rollout is shown"])
            )
            continue
        stage = RlStage(name, {row["extra_info"]["row_id"]: row for row in read_rows(path / "train.parquet")})
        best: dict[str, Any] = {}
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
                known = [best[row_id]] if row_id in best else []
                best.update(best_rollouts([*known, *rollouts], min_reward))
        steps = (read_json(path / "counts.json") or {}).get("steps", 0)
        if (missing := steps - len(list((path / "rollouts").glob("step_*.parquet")))) > 0:
            stage.problems.append(f"{name}/rollouts lacks {missing} of {steps} steps; the others are shown")
        stage.best = {row_id: (r["step"], r["rollout_index"]) for row_id, r in best.items()}
        if not stage.groups:
            stage.problems.append(f"{name} has no rollouts")
        stages.append(stage)
    return stages


def groups_of(file: Path, without: tuple[str, ...] = ()) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The groups of one step's file, as (uid, rollouts); ``without`` names columns that are not wanted."""
    columns = [name for name in pq.read_schema(file).names if name not in without]
    by_uid: dict[str, list[dict[str, Any]]] = {}
    for rollout in pq.read_table(file, columns=columns).to_pylist():
        by_uid.setdefault(rollout["uid"], []).append(rollout)
    yield from by_uid.items()


def read_buffers(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """iteration -> rows of its buffer, without their prompts."""
    columns = ["data_source", "reward_model", "extra_info", "response", "response_from"]
    return {
        path.parent.parent.name: pq.read_table(path, columns=columns).to_pylist()
        for path in sorted(
            folder.glob("iter_*/buffer/buffer.parquet"),
            key=lambda p: int(p.parent.parent.name.removeprefix("iter_")),
        )
    }
