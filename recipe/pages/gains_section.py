"""What the report shows of gains: recognition or confidence, pass@n, own emotions and replies, B itself."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep.files import write_json
from data_prep.rows import read_rows
from recipe.evaluation import buffer_quality, circularity, expression, next_turn
from recipe.evaluation.baselines import readers
from recipe.evaluation.gold_probability import gold_probability
from recipe.evaluation.intervals import Estimate
from recipe.evaluation.rl_stages import RlStage
from recipe.pages import figures
from recipe.run.files import read_json

#: Title of a chart -> its caption, and name of a line -> key of `circularity.describe_stage`.
_CHARTS = {
    "Reward and its fixed-weight twin": (
        "Gold prompts. The twin gives every ranking the weights .7, .2, .1: only recognition raises it.",
        {"mean R": "gold_reward", "twin": "twin"},
    ),
    "Had the same rollouts been surer": (
        "Gold prompts: R with all weight on the first label, and with the weights .9, .1, .1.",
        {"mean R": "gold_reward", "first label alone": "sharp_one", ".9, .1, .1": "sharp_three"},
    ),
    "Right rollouts, groups and votes": (
        "Gold prompts: share of right rollouts, of groups with one, of groups whose majority is right.",
        {"accuracy": "gold_accuracy", "pass@n": "pass_at_n", "majority vote": "vote_accuracy"},
    ),
    "Weight of the first and of the gold label": (
        "Gold prompts, normalised: how sure valid rollouts are, and p(gold) over all rollouts.",
        {"first label": "top_weight", "p(gold)": "gold_weight"},
    ),
    "Calibration error (ECE)": ("Valid rollouts on gold prompts, ten bins; 0 is best.", {"ECE": "ece"}),
    "Labels named": ("Mean over valid rollouts on gold prompts; at most 3.", {"labels": "named"}),
}

#: Part of `own_emotions_and_replies` -> what would be good news.
_CLAIMS = {
    "understanding": "What the persona really feels next is named clearly better than by the best baseline",
    "expression": "A reader finds the stated emotion in replies clearly more often than one constant reading",
}

#: Name of an RL stage -> ``step`` and `circularity.describe_stage` of each of its steps.
Steps = Mapping[str, Sequence[Mapping[str, Any]]]


def steps_of(stages: Sequence[RlStage]) -> Steps:
    """Every RL step in numbers."""
    return {
        stage.name: [
            {"step": step, **circularity.describe_stage(list(groups))}
            for step, groups in itertools.groupby(stage.groups, key=lambda group: group.step)
        ]
        for stage in stages
    }


def step_charts(steps: Steps) -> list[figures.Figure]:
    """Per RL step: the reward's parts, pass@n, the majority vote; a line per measure and stage."""
    charts = []
    for title, (caption, measures) in _CHARTS.items():
        lines = {}
        for (name, found), (label, key) in itertools.product(steps.items(), measures.items()):
            points = [(kinds["step"], kinds[key]) for kinds in found if kinds[key] is not None]
            line = " ".join(([label] if len(measures) > 1 else []) + ([name] if len(steps) > 1 else []))
            lines[line or label] = ([p[0] for p in points], [p[1] for p in points])
        charts.append(figures.line_chart(lines, title, "RL step", caption))
    return [chart for chart in charts if chart]


def stage_table(stages: Sequence[RlStage]) -> list[dict[str, Any]]:
    """``name``, ``kinds`` of `circularity.describe_stage` and ``r2`` of `circularity.r2_information`."""
    return [
        {
            "name": stage.name,
            "kinds": circularity.describe_stage(stage.groups),
            "r2": circularity.r2_information(stage.groups),
        }
        for stage in stages
        if stage.groups
    ]


def gold_probabilities(
    records: Mapping[str, Sequence[Mapping[str, Any]]], on_train: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """p(gold) of every checkpoint on test and training rows.

    Args:
        records: checkpoint -> its records on the test splits.
        on_train: the same on the sample of training rows; of checkpoints that have answered one.

    Returns:
        checkpoint -> corpus (and ``all``) -> ``test`` and ``train``, and ``train_accuracy``, the share of
        right answers to the latter; None where no row was answered.
    """
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for stage, tested in records.items():
        known = on_train.get(stage, [])
        test, train = gold_probability(tested), gold_probability(known)
        found[stage] = {}
        for corpus in test:
            right = [r["acc"] for r in known if corpus in ("all", r["corpus"])]
            found[stage][corpus] = {
                "test": test[corpus],
                "train": train.get(corpus),
                "train_accuracy": sum(right) / len(right) if right else None,
            }
    return found


def real_next_labels(folder: Path) -> dict[str, dict[str, float]]:
    """`next_turn.real_next_labels` of a run's training prompts; empty where it has kept none."""
    path = folder / "data/train.parquet"
    return next_turn.real_next_labels(read_rows(path)) if path.is_file() else {}


def buffer_table(buffers: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """`buffer_quality.describe_buffer` of every B, with its ``name``."""
    return [{"name": name, **buffer_quality.describe_buffer(rows)} for name, rows in buffers.items()]


def own_emotions_and_replies(
    folder: Path, records: Mapping[str, Sequence[Mapping[str, Any]]]
) -> dict[str, dict[str, dict[str, Any]]]:
    """The other two tasks, per checkpoint: what `next_turn.understanding` and `expression.agreement` find.

    The first call trains the reader, which takes half a minute on the three corpora; its finding is kept
    in ``eval/<checkpoint>/own_emotions.json``, beside the records that it comes from.

    Args:
        folder: of the run.
        records: checkpoint -> its records.

    Returns:
        checkpoint -> ``understanding`` and ``expression``, each corpus -> measures. Empty where the run has
        kept no prompts.
    """
    paths = {stage: folder / f"eval/{stage}/own_emotions.json" for stage in records}
    pending = [stage for stage, path in paths.items() if not path.is_file()]
    train, test = (folder / f"data/{split}.parquet" for split in ("train", "test"))
    if pending and not (train.is_file() and test.is_file()):
        return {}
    if pending:
        known, asked = readers(read_rows(train)), read_rows(test)
        for stage in pending:
            found = {
                "understanding": next_turn.understanding(asked, records[stage]),
                "expression": expression.agreement(records[stage], known),
            }
            write_json(paths[stage], found)
    return {stage: _with_estimates(read_json(path)) for stage, path in paths.items()}


def own_in_words(found: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """What the last checkpoint of `own_emotions_and_replies` comes to, a sentence for each of the tasks.

    "Clearly": the 95 % interval over dialogues lies wholly above the baseline, corpus by corpus.
    """
    last = found[next(reversed(list(found)))] if found else {}
    sentences = []
    for part, claim in _CLAIMS.items():
        if table := last.get(part):
            clear = [corpus for corpus, row in table.items() if _is_clear(row)]
            named = f" ({', '.join(clear)})" if clear else ""
            sentences.append(f"{claim}, in {len(clear) or 'none'} of {len(table)} corpora{named}.")
    return sentences


def _is_clear(row: Mapping[str, Any]) -> bool:
    found, bar = (row["gain"], 0.0) if "gain" in row else (row["agreement"], row["majority"])
    return found is not None and found.interval is not None and found.interval[0] > bar


def _with_estimates(found: dict[str, dict[str, dict[str, Any]]]) -> dict[str, dict[str, dict[str, Any]]]:
    """What JSON made lists of, as `Estimate` again."""

    def restored(value: Any) -> Any:
        if not isinstance(value, list):
            return value
        mean, interval, n, clusters = value
        return Estimate(mean, interval and (interval[0], interval[1]), n, clusters)

    return {
        part: {c: {key: restored(x) for key, x in row.items()} for c, row in table.items()}
        for part, table in found.items()
    }
