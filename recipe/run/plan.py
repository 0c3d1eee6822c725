"""`make plan`: what a run needs in memory and hours, before anything starts. Arithmetic, no GPU, no model.

Memory is worked out in `recipe.run.plan_memory`, hours in `recipe.run.plan_hours`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig

from data_prep.corpora import read_corpora
from recipe.run.gpu_checks import fit_replicas
from recipe.run.plan_hours import gpus_of, hours_table
from recipe.run.plan_memory import (
    GIB,
    Architecture,
    advice,
    architecture,
    longest_row,
    memory,
    micro_batch_tokens,
)
from recipe.run.preflight import check_types
from recipe.run.roofline import step_table
from recipe.run.shortcuts import CONF, expand
from rewards.labels import LABELS


def render(config: Any, model: Architecture, train_rows: int, test_rows: int) -> str:
    """The plan as text for a terminal."""
    plan = config.plan
    longest = longest_row(config)
    tokens = micro_batch_tokens(config, longest)
    need = memory(config, model, tokens)
    lines = [
        f"{config.base.name}: {model.parameters / 1e9:.2f} B parameters on {gpus_of(config)} x {plan.gpu}",
        "",
        f"memory of the RL stage, GiB a GPU of {need.available / GIB:.1f} "
        f"(longest rows, {tokens:,} tokens in a micro-batch)",
    ]
    for title, parts in (("training", need.training), ("generating", need.rollout)):
        lines.append(f"  {title:<40}{sum(parts.values()) / GIB:>9.1f}")
        lines += [f"    {name:<38}{size / GIB:>9.1f}" for name, size in parts.items() if size]
    usual = micro_batch_tokens(config, plan.tokens.prompt + plan.tokens.response)
    room = sum(memory(config, model, usual).training.values()) / GIB
    lines.append(f"  training with {usual:,} tokens in it (rows of mean length){room:>7.1f}")
    rows = need.kv_tokens / longest
    lines.append(
        f"  KV cache of a replica: {need.kv_tokens:,.0f} tokens, {rows:,.0f} of the longest rows at once"
    )
    lines += ["", *hours_table(config, model, train_rows, test_rows), "", *step_table(config, model), ""]
    lines += [f"WOULD NOT FIT  {problem}" for problem in advice(config, model)] or ["everything fits"]
    return "\n".join(lines)


def count_rows(config: Any) -> tuple[int, int]:
    """Labelled training and test utterances that a run would take: of ``raw_dir`` if it is there, else as
    assumed; no more than ``train_rows``, and ``test_rows`` of each corpus."""
    raw_dir = config.raw_dir or config.download
    if raw_dir and Path(raw_dir).is_dir():
        found = {"train": 0, "dev": 0, "test": 0}
        for dialogue in read_corpora(raw_dir, config.corpora):
            found[dialogue.split] += sum(utterance.label is not None for utterance in dialogue.utterances)
    else:
        where = f"there is no folder {raw_dir}" if raw_dir else "no RAW_DIR"
        print(f"rows of the paper's corpora, as assumed: {where}", file=sys.stderr)
        found = {"train": config.plan.rows.train, "test": config.plan.rows.test}
    corpora = len(config.corpora or LABELS)
    return (
        min(found["train"], config.train_rows or found["train"]),
        min(found["test"], (config.test_rows or found["test"]) * corpora),
    )


@hydra.main(version_base=None, config_path=str(CONF), config_name="self_emo")
def _plan(config: DictConfig) -> None:
    try:
        check_types(config)
        if config.profile != "gpu":
            raise ValueError(
                "a plan is of GPUs; hardware=cpu has none (times on a CPU: docs/performance.md). Name "
                "hardware=1gpu, 2gpu, 4gpu or 8gpu"
            )
        fit_replicas(config)  # as the run does
        print(render(config, architecture(config), *count_rows(config)))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


def main() -> None:
    """Entry point; a plan is for the node that one does not sit at, so eight GPUs unless told otherwise."""
    asked = sys.argv[1:]
    if not any(argument.startswith("hardware=") for argument in asked):
        asked.append("hardware=8gpu")
    try:
        sys.argv[1:] = expand(asked, os.environ)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    _plan()


if __name__ == "__main__":
    main()
