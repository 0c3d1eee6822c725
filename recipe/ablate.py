"""`make ablate`: the settings of Table 2, one run after the other over several seeds, as one table.

`python -m recipe.ablate [MODEL=...] [RAW_DIR=...] [NAME=...] [SEEDS=1,2,3] [hydra overrides]`. Every run is
a `make train` of its own; what is finished is not done again, what was interrupted goes on. Stages that the
settings of a seed have in common, such as the cold start, are done once (`recipe.run.reuse`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from data_prep.disk import in_words
from data_prep.files import write_text
from recipe.evaluation.results import STAGE_NAMES, in_order, is_checkpoint, read_evaluation
from recipe.evaluation.seeds import across_runs
from recipe.pages.compare import compare_runs, with_spread
from recipe.run.files import read_json
from recipe.run.flatten import flatten
from recipe.run.shortcuts import CONF

#: Name of a run -> the experiment whose differences from the full method it has.
SETTINGS = {
    "full": None,
    "cold": "ablation_cold",
    "grpo": "ablation_grpo",
    "original": "ablation_original_only",
}


#: Setting -> its title, and the paper's average accuracy in percent with Qwen3-4B (Tables 1 and 2).
TITLES = {
    "full": ("SELF-EMO (full)", 59.29),
    "cold": ("w/ COLD", 57.15),
    "grpo": ("w/o SELF-GRPO", 56.15),
    "original": ("w/o SELF-EMO", 54.11),
}
_ZERO_SHOT = 52.96


def overrides_of(experiment: str | None) -> list[str]:
    """What an ablation changes, as Hydra overrides, so that it can be laid over any experiment.

    Args:
        experiment: a file of ``conf/experiment`` that builds on ``paper``, directly or through another.
    """
    if experiment is None:
        return []
    content = yaml.safe_load((CONF / f"experiment/{experiment}.yaml").read_text())
    parents = [name for name in content.pop("defaults") if name not in ("paper", "_self_")]
    inherited = [override for name in parents for override in overrides_of(name)]
    own = [f"{key}={yaml.safe_dump(value, default_flow_style=True).strip()}" if isinstance(value, list)
           else f"{key}={value}" for key, value in flatten(content).items()]  # fmt: skip
    return inherited + own


def commands(arguments: Sequence[str], root: Path) -> tuple[str, dict[tuple[str, int], list[str]]]:
    """What has to be run.

    Args:
        arguments: of the command line.
        root: folder of the runs.

    Returns:
        The runs' common name, and (setting, seed) -> arguments of `recipe.main`.

    Raises:
        ValueError: SEEDS is no list of numbers, or a flag is among the arguments.
    """
    # Hydra's flags, such as --cfg, print and end with 0, so every run would seem to be done.
    if flags := [a for a in arguments if a.startswith("-")]:
        raise ValueError(
            f"{flags[0]}: make ablate takes settings alone; "
            "`.venv/bin/python -m recipe.main --cfg job` prints them all"
        )
    given = dict(a.split("=", 1) for a in arguments if a.startswith(("NAME=", "SEEDS=")))
    rest = [a for a in arguments if not a.startswith(("NAME=", "SEEDS="))]
    name, seeds = given.get("NAME") or "ablation", given.get("SEEDS") or "1,2,3"
    if not all(seed.strip().isdigit() for seed in seeds.split(",")):
        raise ValueError(f"SEEDS={seeds}: give whole numbers with commas between them")
    found: dict[tuple[str, int], list[str]] = {}
    for seed in map(int, seeds.split(",")):
        for setting, experiment in SETTINGS.items():
            stages = ["evaluate.stages=[base,cold,rl,retrained]"] if experiment is None else []
            before = [str(root.resolve() / f"{name}-{s}-s{n}") for s, n in found if n == seed]
            reuse = [f"run.reuse={json.dumps(before)}"] if before else []
            changes = [*overrides_of(experiment), *stages, f"run.seed={seed}", *reuse]
            found[setting, seed] = [f"NAME={name}-{setting}-s{seed}", *rest, *changes]
    return name, found


def table(summaries: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Table 2 in the paper's layout, as Markdown.

    Args:
        summaries: setting -> one entry a seed: stage -> corpus -> measures.
    """
    first = summaries["full"][0]
    corpora = [c for c in next(iter(first.values())) if c != "avg"]
    heads = [f"{c} acc / wF1" for c in corpora] + ["avg acc", "avg wF1", "paper's avg acc (Qwen3-4B)"]
    lines = [f"| setting | checkpoint | seeds | {' | '.join(heads)} |", "|---" * (len(heads) + 3) + "|"]
    for setting, (title, paper) in TITLES.items():
        runs = summaries.get(setting, [])
        stages = in_order(set().union(*runs))
        for stage in stages:
            if setting != "full" and stage in ("base", "cold") and stage in first:
                continue  # the same checkpoint, or one that the full run has, too
            mean = across_runs([run[stage] for run in runs if stage in run])
            cells = [f"{_percent(mean[c]['accuracy'])} / {_percent(mean[c]['weighted_f1'])}" for c in corpora]
            cells += [_percent(mean["avg"]["accuracy"]), _percent(mean["avg"]["weighted_f1"])]
            said = _ZERO_SHOT if stage == "base" else paper if stage == stages[-1] else None
            cells.append("" if said is None else f"{said:.2f}")
            count = sum(stage in run for run in runs)
            lines.append(f"| {title} | {STAGE_NAMES[stage]} | {count} | {' | '.join(cells)} |")
    lines += [
        "",
        "Percent, mean ± standard deviation over seeds. The last column is the paper's, not measured here.",
    ]
    return "\n".join(lines)


def _percent(value: tuple[float, float]) -> str:
    return with_spread((100 * value[0], 100 * value[1]), 2)


def nothing_to_add(folder: Path) -> bool:
    """Does the full run of this folder already learn from all expert responses that there are?"""
    counts = read_json(folder / "iter_0/buffer/counts.json")
    return counts["with_response"] >= counts["rows"]


def main() -> int:
    """Command line of `make ablate`."""
    root = Path(next((a.partition("=")[2] for a in sys.argv[1:] if a.startswith("run.root=")), "runs"))
    try:
        return _run_all(sys.argv[1:], root)
    except (ValueError, OSError) as error:
        print(f"error: {in_words(error, root) or error}", file=sys.stderr)
        return 1


def _run_all(arguments: Sequence[str], root: Path) -> int:
    """Have every run made that is not finished, and write the table; the exit status.

    Raises:
        ValueError, OSError: why it cannot.
    """
    name, planned = commands(arguments, root)
    summaries: dict[str, list[dict[str, Any]]] = {}
    folders = []
    for number, ((setting, seed), own) in enumerate(planned.items(), start=1):
        folder = root / f"{name}-{setting}-s{seed}"
        print(f"== {number} of {len(planned)}: {folder.name}", flush=True)
        if setting == "cold" and nothing_to_add(root / f"{name}-full-s{seed}"):
            print("   left out: the full run learns from every expert response that there is already")
            continue
        resume = ["run.resume=true"] if folder.exists() else []
        child = subprocess.Popen([sys.executable, "-m", "recipe.main", *own, *resume])
        try:
            status = child.wait()
        except KeyboardInterrupt:  # the terminal has told the run, too, which ends its processes
            child.wait()
            print("stopped; the same command goes on")
            return 130
        if status:
            print(
                f"error: {folder.name} ended with status {status}; the same command goes on", file=sys.stderr
            )
            return status
        folders.append(folder)
        found = {s: table for s, table in read_evaluation(folder, "summary").items() if is_checkpoint(s)}
        summaries.setdefault(setting, []).append(found)
    text = table(summaries)
    path = write_text(root / f"{name}-table2.md", text + "\n")
    print(f"\n{text}\n\ntable: {path}\npage: {compare_runs(folders)[1]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
