"""What `eval/` of a run holds, and what its checkpoints and measures are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from recipe.evaluation.measures import summarise
from recipe.run.files import read_json

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
    """stage -> measures; the summary of an older run gets what it lacks from the records."""
    return {
        stage: table if "twin" in table["avg"] or stage not in records else summarise(records[stage])
        for stage, table in read_evaluation(folder, "summary").items()
    }
