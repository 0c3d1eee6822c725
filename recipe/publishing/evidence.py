"""What a card says of a checkpoint's worth, found by the functions that the run's page uses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recipe.evaluation.alarms import Alarm
from recipe.evaluation.checkpoint_tests import compare, tested_pairs
from recipe.evaluation.intervals import Interval, bootstrap_intervals
from recipe.evaluation.results import is_checkpoint, read_evaluation
from recipe.evaluation.rl_stages import read_rl_stages
from recipe.pages.circularity_section import alarms_of
from recipe.pages.headline import headline
from recipe.publishing.finished import Finished
from recipe.run.files import read_json


@dataclass(frozen=True)
class Evidence:
    """What a run's page finds.

    Attributes:
        sentence: what happened, as the page opens.
        intervals: stage -> corpus (and ``avg``) -> measure -> 95 % interval over dialogues.
        tests: of `compare`, those that the published checkpoint has a part in.
        clean: stage -> measures without the test utterances that stand in training text.
        leakage: overlaps of test with training splits that are not empty.
        compared: pairs of splits that were compared for that.
        alarms: of circularity and collapse, clear ones first.
    """

    sentence: str
    intervals: Mapping[str, Mapping[str, Mapping[str, Interval]]]
    tests: Sequence[Mapping[str, Any]]
    clean: Mapping[str, Any]
    leakage: Sequence[Mapping[str, Any]]
    compared: int
    alarms: Sequence[Alarm]


def evidence_of(run: Finished) -> Evidence:
    """Compute it from the run's ``eval/``, its rollouts and its leakage table.

    Raises:
        ValueError: one of these files is broken; the message names it.
    """
    records, results = run.records, run.results
    intervals = {stage: bootstrap_intervals(rows) for stage, rows in records.items()}
    written = {stage: rows for stage, rows in records.items() if is_checkpoint(stage)}
    overlaps = read_json(run.folder / "data/leakage.json", [])
    return Evidence(
        sentence=headline(results, records, intervals).sentence,
        intervals=intervals,
        tests=[
            test
            for test in compare(records, tested_pairs(list(records)))
            if run.scored in (test["first"], test["second"])
        ],
        clean={
            stage: table
            for stage, table in read_evaluation(run.folder, "summary_clean").items()
            if table["avg"]["n"] < results[stage]["avg"]["n"]
        },
        leakage=[overlap for overlap in overlaps if overlap["near"]],
        compared=len(overlaps),
        alarms=alarms_of(read_rl_stages(run.folder), written),
    )
