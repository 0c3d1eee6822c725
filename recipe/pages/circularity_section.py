"""What the report shows of circularity: its measures and alarms over a whole run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipe.evaluation import alarms, circularity, diversity
from recipe.evaluation.results import STAGE_NAMES
from recipe.evaluation.rl_stages import RlStage
from recipe.pages import figures
from recipe.run.files import in_iterations, read_json

#: What `recipe.on_verl.self_play` measured on held-out dialogues -> what was answered there.
_HELD_OUT = {"gold": "their own utterances", "turn": "sequels, turn {}"}


def held_out_of(folder: Path) -> list[dict[str, Any]]:
    """SELF-EMO's own test split, by iteration: ``k``, ``parts`` (what was asked -> measures), ``entropy``."""
    found = []
    for k, path in in_iterations(folder, "self_play/held_out.json"):
        measured = read_json(path)
        parts = {
            _HELD_OUT[kind].format(number): measures
            for key, measures in measured.items()
            for kind, _, number in [key.partition("_")]
            if kind in _HELD_OUT
        }
        found.append({"k": k, "parts": parts, "entropy": measured.get("entropy")})
    return found


def moments(
    stages: Sequence[RlStage], records: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[tuple[alarms.Point, alarms.Point]]:
    """What the warning looks at: within each RL stage, from one to the next, and on the test splits.

    Args:
        stages: of the run, in order.
        records: checkpoint -> its records on the test splits, in the order of training.
    """
    stages = [stage for stage in stages if stage.groups]
    within = {stage.name: alarms.first_and_last(stage.name, stage.groups) for stage in stages}
    points = [alarms.point_of(stage.name, stage.groups) for stage in stages]
    found = [pair for pair in within.values() if pair] + list(itertools.pairwise(points))
    for before, after in itertools.pairwise(records):
        # The test splits have no self-reward: what RL was paid at its first and at its last steps.
        ends = [pair for name in rl_stages_of(after, list(within)) if (pair := within[name])]
        if ends:
            found.append(
                (
                    _on_test_splits(before, records[before], ends[0][0]),
                    _on_test_splits(after, records[after], ends[-1][1]),
                )
            )
    return found


def alarms_of(
    stages: Sequence[RlStage], records: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[alarms.Alarm]:
    """All alarms of a run, clear ones first.

    Args:
        stages: its RL stages, in order.
        records: checkpoint -> its records on the test splits, in the order of training.
    """
    found = alarms.warnings(moments(stages, records)) + alarms.collapses(records, STAGE_NAMES)
    return sorted(found, key=lambda alarm: not alarm.clear)


def _on_test_splits(
    checkpoint: str, records: Sequence[Mapping[str, Any]], paid: alarms.Point
) -> alarms.Point:
    return alarms.Point(
        f"the checkpoint {STAGE_NAMES[checkpoint]} (test splits)",
        [alarms.Reading(r["row_id"], _dialogue(r), r["acc"]) for r in records],
        paid.self_rewards,
    )


def rl_stages_of(checkpoint: str, stages: Sequence[str]) -> list[str]:
    """Which RL stages lie between a checkpoint and the one before it.

    Args:
        checkpoint: ``rl_2``: that of iteration 2; ``rl``, as older runs call their last one: all; another
            name: none.
        stages: names such as ``iter_2/rl``.
    """
    kind, _, iteration = checkpoint.partition("_")
    if kind != "rl":
        return []
    return [name for name in stages if not iteration or name == f"iter_{iteration}/rl"]


def _dialogue(record: Mapping[str, Any]) -> str:
    return f"{record['corpus']}/{record['dialogue_id']}"


def mistakes_between(records: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """`recipe.evaluation.circularity.mistakes` from each checkpoint to the next."""
    return [
        {"before": a, "after": b, **circularity.mistakes(records[a], records[b])}
        for a, b in itertools.pairwise(records)
    ]


def diversity_of(records: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """Diversity of a checkpoint's valid replies: their number ``n``, distinct-1 and -2, self-BLEU."""
    replies = [json.loads(r["parsed"])["my_output"] for r in records if r["valid"]]
    return {
        "n": len(replies),
        "distinct_1": diversity.distinct(replies, 1),
        "distinct_2": diversity.distinct(replies, 2),
        "self_bleu": diversity.self_bleu(replies),
    }


def drift_charts(
    buffers: Mapping[str, Sequence[Mapping[str, Any]]], real_next: Mapping[str, Mapping[str, float]]
) -> list[figures.Figure]:
    """Of the last buffer, one per corpus.

    Args:
        buffers: iteration -> B.
        real_next: of `recipe.evaluation.next_turn.real_next_labels`.
    """
    if not buffers:
        return []
    last, rows = list(buffers.items())[-1]
    return [
        figures.drift_chart(drift, f"{corpus}, B after {last}")
        for corpus, drift in circularity.label_drift(rows, real_next).items()
    ]


def group_charts(stages: Sequence[RlStage]) -> list[figures.Figure]:
    """Per RL step: R on gold and on self-labelled prompts, and how often the consensus is wrong."""
    rewards: dict[str, tuple[list, list]] = {}
    wrong: dict[str, tuple[list, list]] = {}
    for stage in stages:
        by_step = itertools.groupby(stage.groups, key=lambda group: group.step)
        for step, groups in by_step:
            found = circularity.describe_stage(list(groups))
            for lines, name, value in (
                (rewards, f"{stage.name}: gold", found["gold_reward"]),
                (rewards, f"{stage.name}: self-labelled", found["self_reward"]),
                (wrong, stage.name, found["wrong_consensus"]),
            ):
                if value is not None:
                    xs, ys = lines.setdefault(name, ([], []))
                    xs.append(step)
                    ys.append(value)
    charts = (
        figures.line_chart(
            rewards, "R by who labelled the prompt", "RL step", "Mean R of a step's rollouts."
        ),
        figures.line_chart(
            wrong,
            "Wrong consensus",
            "RL step",
            "Share of gold prompts whose group's p* has a wrong first label.",
        ),
    )
    return [chart for chart in charts if chart]
