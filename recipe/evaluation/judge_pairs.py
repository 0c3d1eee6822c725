"""What a judge compares: two answers to the same prompt, of two checkpoints or of two moments of RL (Fig. 3).

A checkpoint (``cold``, ``rl_1``, ...) answered the test prompts. ``early_k`` and ``late_k`` are what the
policy of RL stage k said in the first and in the last quarter of its steps: rollouts of training prompts, of
which one that keeps the rule is drawn for each prompt. Only prompts that came up at both moments make a
pair: a stage of several epochs has them, one of less than an epoch has none with itself.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from data_prep.rows import ground_truth, read_rows
from recipe.evaluation.results import is_checkpoint, scored_stages
from recipe.evaluation.rl_stages import first_and_last_quarter
from recipe.run.files import in_iterations, named_checkpoint, read_json
from rewards.parse import ParsedOutput, parse_output

_MOMENT = re.compile(r"(early|late)(?:_(\d+))?")


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt; ``a`` and ``b`` as texts, ``said`` as the rule reads them.

    Attributes:
        persona: whom the answers play: ``name`` and ``profile``.
        context: the turns so far, each ``speaker`` and ``text``.
        label: of the last utterance, label -> weight; no judge sees it.
    """

    row_id: str
    persona: Mapping[str, str]
    context: list[dict[str, str]]
    label: Mapping[str, float]
    a: str
    b: str
    said: Mapping[str, ParsedOutput]


def full_names(folder: Path, a: str, b: str) -> tuple[str, str]:
    """What ``A=`` and ``B=`` mean in a run.

    ``rl`` and ``retrained`` are of the last iteration; ``early`` is the first RL stage's begin, ``late`` the
    last one's end.

    Raises:
        ValueError: there is no such thing, or they answered different prompts.
    """
    moments = [_MOMENT.fullmatch(name) for name in (a, b)]
    if not any(moments):
        scored = [stage for stage in scored_stages(folder) if is_checkpoint(stage)]
        return named_checkpoint(scored, a), named_checkpoint(scored, b)
    found = [k for k, _ in in_iterations(folder, "rl/rollouts")]
    if not all(moments):
        raise ValueError(
            f"{a} and {b} did not answer the same prompts: early and late are rollouts of training prompts, "
            "checkpoints are scored on the test splits; compare A=early B=late, or two checkpoints"
        )
    if not found:
        raise ValueError(f"{folder} has no rollouts of an RL stage yet, so nothing is early or late")
    names = []
    for kind, number in (moment.groups() for moment in moments if moment):
        k = int(number) if number else found[0 if kind == "early" else -1]
        if k not in found:
            raise ValueError(f"{kind}_{k}: there is no RL stage {k}; there are {', '.join(map(str, found))}")
        names.append(f"{kind}_{k}")
    return names[0], names[1]


def find_pairs(folder: Path, a: str, b: str, most: int | None = None) -> tuple[list[Pair], int]:
    """What two checkpoints, or two moments of RL, answered to the same prompts.

    Args:
        folder: the run's.
        a, b: of `full_names`.
        most: at most so many pairs, evenly spread over the prompts; None: all.

    Returns:
        Pairs of answers that keep the rule, and how many prompts are left out because one does not.

    Raises:
        ValueError: a stage has not been evaluated, or there is no pair.
    """
    if a == b or (most is not None and most < 1):
        raise ValueError("judging takes two different checkpoints (A=, B=) and at least one pair (ROWS=)")
    (rows, first), (_, second) = (_answers(folder, name) for name in (a, b))
    pairs, left_out = [], 0
    for row in rows:
        info = row["extra_info"]
        if not (info["row_id"] in first and info["row_id"] in second):
            continue
        texts = {"a": first[info["row_id"]], "b": second[info["row_id"]]}
        said = {name: parse_output(text, info["labels"]) for name, text in texts.items()}
        if not all(answer.valid for answer in said.values()):
            left_out += 1
            continue
        context = [dict(turn) for turn in info["context"]]
        pairs.append(Pair(info["row_id"], info["persona"], context, ground_truth(row), **texts, said=said))
    if not pairs and not left_out:
        raise ValueError(
            f"{a} and {b} have no prompt in common; early and late steps share one where RL goes through its "
            "prompts more than once (trainer.total_epochs); A=cold B=rl compares the policy before and after"
        )
    if not pairs:
        raise ValueError(f"no prompt has an answer of both {a} and {b} that keeps the rule")
    step = 1 if most is None else max(len(pairs) / most, 1)
    return [pairs[int(i * step)] for i in range(int(len(pairs) / step))], left_out


def _answers(folder: Path, name: str) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The prompts, and row_id -> the answer that was given."""
    if moment := _MOMENT.fullmatch(name):
        stage = folder / f"iter_{moment[2]}/rl"
        return read_rows(stage / "train.parquet"), _drawn_rollouts(stage / "rollouts", moment[1])
    path = folder / f"eval/{name}/records.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing: {name!r} has not been evaluated in this run")
    return read_rows(folder / "data/test.parquet"), {r["row_id"]: r["answer"] for r in read_json(path)}


def _drawn_rollouts(folder: Path, moment: str) -> dict[str, str]:
    """row_id -> one rollout of the first or last quarter of the steps; "" where none keeps the rule."""
    files = {int(path.stem.removeprefix("step_")): path for path in folder.glob("step_*.parquet")}
    quarters = first_and_last_quarter(files)
    if quarters is None:
        raise ValueError(f"{folder} has the rollouts of {len(files)} steps; early and late take two at least")
    steps = quarters[moment == "late"]
    drawn: dict[str, tuple[bytes, str]] = {}
    for rollout in _read([files[step] for step in sorted(steps)]):
        name = "{row_id}:{step}:{rollout_index}".format(**rollout)
        lot = hashlib.sha256(name.encode()).digest() if rollout["valid"] else b""
        known = drawn.get(rollout["row_id"])
        if known is None or lot > known[0]:
            drawn[rollout["row_id"]] = lot, rollout["response"] if lot else ""
    return {row_id: text for row_id, (_, text) in drawn.items()}


def _read(files: Iterable[Path]) -> Iterable[dict[str, Any]]:
    columns = ["row_id", "step", "rollout_index", "valid", "response"]
    for path in files:
        yield from pq.read_table(path, columns=columns).to_pylist()
