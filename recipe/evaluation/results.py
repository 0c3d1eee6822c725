"""What `eval/` of a run holds, and what its checkpoints and measures are called."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from recipe.evaluation.measures import summarise
from recipe.run.files import checkpoint_folders, read_json, wanted_checkpoints

BASELINE_NAMES = {"majority": "majority class", "tfidf": "TF-IDF, logistic regression"}
#: The measures of the headline tables, and what pages and terminal call them.
MEASURE_NAMES = {
    "accuracy": "accuracy",
    "weighted_f1": "weighted F1",
    "valid": "keeps the rule",
    "reward": "mean reward",
}
#: The scores for comparison with published ones, which mostly read a broken answer as the nearest label.
NEAREST_NAMES = {"accuracy_nearest": "accuracy, nearest", "weighted_f1_nearest": "weighted F1, nearest"}
_CHECKPOINT = re.compile(r"(base|cold|rl|retrained)(?:_(\d+))?")


class _StageNames(dict[str, str]):
    """Names of whatever is scored; checkpoints of an iteration are named when they are asked for."""

    def __missing__(self, stage: str) -> str:
        kind, _, k = stage.rpartition("_")
        names = {
            "rl": f"after RL {k}",
            "retrained": f"retrained on B {k}",
            "early": f"early in RL {k}",
            "late": f"late in RL {k}",
        }
        return names.get(kind, stage)


#: Scored stage -> its title. ``rl`` and ``retrained`` are of runs that scored their last iteration alone.
STAGE_NAMES = _StageNames(
    BASELINE_NAMES
    | {
        "base": "base model",
        "cold": "after cold start",
        "rl": "after RL",
        "retrained": "after retraining on B",
    }
)


def is_checkpoint(stage: str) -> bool:
    """Is it a language model's checkpoint, and not a baseline?"""
    return _CHECKPOINT.fullmatch(stage) is not None


def in_order(stages: Iterable[str]) -> list[str]:
    """Baselines, then checkpoints as they were made: base, cold, rl_1, retrained_1, rl_2, ..."""

    def place(stage: str) -> tuple[int, int, int, str]:
        if found := _CHECKPOINT.fullmatch(stage):
            kind = ("base", "cold", "rl", "retrained").index(found[1])
            return 1, int(found[2] or (0 if kind < 2 else 1_000_000)), kind, stage
        return 0, list(BASELINE_NAMES).index(stage) if stage in BASELINE_NAMES else 99, 0, stage

    return sorted(stages, key=place)


def scored_stages(folder: Path) -> list[str]:
    """What a run has measures of, in order."""
    return in_order(path.parent.name for path in folder.glob("eval/*/summary.json"))


def missing_records(folder: Path) -> list[str]:
    """What to say of checkpoints that have measures, but not the answers that these are from."""
    return [
        f"eval/{stage}/records.json is missing, and with it the intervals and tests of it: delete "
        f"eval/{stage} and resume the run, which scores the answers again"
        for stage in scored_stages(folder)
        if not (folder / f"eval/{stage}/records.json").is_file()
    ]


def read_evaluation(folder: Path, name: str) -> dict[str, Any]:
    """stage -> content of ``eval/<stage>/<name>.json``, for the stages that have it, in order."""
    stages = in_order(path.parent.name for path in folder.glob(f"eval/*/{name}.json"))
    return {stage: read_json(folder / f"eval/{stage}/{name}.json") for stage in stages}


def read_summaries(folder: Path, records: dict[str, list[dict]]) -> dict[str, dict[str, Any]]:
    """stage -> measures; the summary of an older run gets what it lacks from the records."""
    return {
        stage: table
        if {*MEASURE_NAMES, *NEAREST_NAMES} <= table["avg"].keys() or stage not in records
        else summarise(records[stage])
        for stage, table in read_evaluation(folder, "summary").items()
    }


def unscored(folder: Path, config: Any, results: Mapping[str, Any]) -> list[str]:
    """Checkpoints that the settings ask for and that have no score; older runs score the last ones alone.

    Args:
        folder: of the run.
        config: its settings.
        results: stage -> measures.
    """
    known = {"base": folder} | checkpoint_folders(folder, config.flywheel.iterations)
    wanted = wanted_checkpoints(known, config.evaluate.stages)
    return [name for name in wanted if name not in results and name.partition("_")[0] not in results]
