"""Several runs of one setting as one table: mean and standard deviation over seeds.

`python -m recipe.compare RUN RUN ...` (`make compare RUNS="a b c"`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from recipe.run_files import MEASURE_NAMES, STAGE_NAMES
from recipe.statistics import across_runs


def seconds(folder: Path) -> float:
    """Wall time of all steps of a run, as `state.json` has it."""
    steps = json.loads((folder / "state.json").read_text())["steps"]
    return sum(step["seconds"] for step in steps.values())


def render(folders: Sequence[Path]) -> str:
    """The table, over the checkpoints that every run has scored.

    Args:
        folders: of the runs.

    Raises:
        ValueError: a folder is no run, or the runs share no scored checkpoint or no corpus.
    """
    if len(set(f.resolve() for f in folders)) < len(folders):
        raise ValueError("a run is named twice")
    if missing := [str(f) for f in folders if not (f / "state.json").is_file()]:
        raise ValueError(f"{', '.join(missing)}: no run, there is no state.json")
    stages = [s for s in STAGE_NAMES if all((f / f"eval/{s}/summary.json").is_file() for f in folders)]
    if not stages:
        raise ValueError("the runs have no checkpoint that all of them scored")
    lines = [
        f"{len(folders)} runs, mean and standard deviation of the held-out test splits, avg over corpora"
    ]
    lines.append(f"{'checkpoint':<24}" + "".join(f"{name:>18}" for name in MEASURE_NAMES.values()))
    for stage in stages:
        summaries = [json.loads((f / f"eval/{stage}/summary.json").read_text()) for f in folders]
        if len({frozenset(s) for s in summaries}) > 1:
            raise ValueError("the runs were scored on different corpora")
        table = across_runs(summaries)["avg"]
        cells = "".join(f"{f'{table[m][0]:.3f} ± {table[m][1]:.3f}':>18}" for m in MEASURE_NAMES)
        lines.append(f"{STAGE_NAMES[stage]:<24}{cells}")
    for folder in folders:
        config = OmegaConf.load(folder / "config.yaml")
        lines.append(f"{folder.name}: seed {config.run.seed}, {seconds(folder) / 60:.1f} min")
    return "\n".join(lines)


def main() -> int:
    """Command line of `make compare`."""
    folders = [Path(name) if Path(name).is_dir() else Path("runs") / name for name in sys.argv[1:]]
    if len(folders) < 2:
        print('error: name at least two runs, for instance make compare RUNS="a b"', file=sys.stderr)
        return 1
    try:
        print(render(folders))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
