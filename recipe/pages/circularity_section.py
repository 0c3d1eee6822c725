"""What the report shows of circularity: the measures of `recipe.evaluation.circularity` over a whole run."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

from recipe.evaluation import circularity, diversity
from recipe.evaluation.results import STAGE_NAMES
from recipe.evaluation.rl_stages import RlStage
from recipe.pages import figures


def moments(
    stages: Sequence[RlStage], records: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[tuple[circularity.Point, circularity.Point]]:
    """What the warning looks at: within each RL stage, from one to the next, and on the test splits."""
    stages = [stage for stage in stages if stage.groups]
    within = [circularity.first_and_last(stage.name, stage.groups) for stage in stages]
    points = [circularity.point_of(stage.name, stage.groups) for stage in stages]
    ends = [pair for pair in within if pair]
    found = ends + list(itertools.pairwise(points))
    if {"cold", "rl"} <= records.keys() and ends:
        # The test splits have no self-reward: what RL was paid at its first and at its last steps.
        before, after = (
            circularity.Point(
                f"the checkpoint {STAGE_NAMES[name]} (test splits)",
                [r["acc"] for r in records[name]],
                paid.self_rewards,
            )
            for name, paid in (("cold", ends[0][0]), ("rl", ends[-1][1]))
        )
        found.append((before, after))
    return found


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


def drift_charts(buffers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[figures.Figure]:
    """Of the last buffer, one per corpus."""
    last = next(reversed(list(buffers)), "")
    return [
        figures.drift_chart(drift, f"{corpus}, B after {last}")
        for corpus, drift in circularity.label_drift(buffers.get(last, [])).items()
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
