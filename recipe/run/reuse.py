"""A training stage that another run has done with the same settings, data and weights is taken from it.

The settings of Table 2 begin alike, so `make ablate` names the runs of the same seed in ``run.reuse``:
what differs between two settings is then what they change, and not two cold starts.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from data_prep.files import commit, part_of, sha256, write_json
from data_prep.masking import masked
from recipe.models import weights
from recipe.run import manifest
from recipe.run.files import read_json
from recipe.run.flatten import flatten, plain

_NAME = "fingerprint.json"
#: What the RL stage does not read: it works on prompts and weights that are there.
_NOT_OF_RL = (
    "base", "corpora", "corpus", "decontaminate", "dev_rows", "download", "evaluate", "expert", "flywheel",
    "plan", "profile", "prompts", "raw_dir", "run", "sft", "test_rows", "train_rows",
)  # fmt: skip


def fingerprint(stage: str, config: Any, work: Path, run: Path, start: str | Path) -> dict[str, Any]:
    """What decides a training stage's outcome, apart from chance.

    Args:
        stage: ``sft`` or ``rl``.
        config: the stage's configuration.
        work: the stage's folder, with the Parquet files that it reads.
        run: the run's folder; settings that name it are the same in another run.
        start: the weights it starts from.

    Returns:
        Plain values, equal for stages that do the same.
    """
    content = masked(plain(config))  # it is written
    if stage == "sft":
        content = {name: content[name] for name in ("sft", "env", "cluster") if name in content}
    else:
        content = {name: value for name, value in content.items() if name not in _NOT_OF_RL}
    settings = {
        name: value.replace(str(run), "<run>") if isinstance(value, str) else value
        for name, value in flatten(content).items()
        if name.rpartition(".")[2] != "experiment_name"
    }
    data = {path.name: sha256(path) for path in sorted(work.glob("*.parquet"))}
    return {"stage": stage, "settings": settings, "data": data, "weights": weights.digest(start)}


def take(found: dict[str, Any], work: Path, step: str, runs: Iterable[str]) -> str | None:
    """Take the stage from a run that has done the same, and say which; None if none has.

    Args:
        found: the stage's `fingerprint`.
        work: its folder; what is taken is put there, as hard links where the disk allows it.
        step: its name, such as ``iter_0/sft``.
        runs: folders of the runs to look at.
    """
    for run in map(Path, runs):
        if read_json(run / step / _NAME, None) != found:
            continue
        if problems := manifest.check(run, step):
            print(f"  {step} is not taken from {run.name}: {problems[0]}", flush=True)
            continue
        part = part_of(work)
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(run / step, part, copy_function=_link, ignore=shutil.ignore_patterns(manifest.NAME))
        write_json(part / "usage.json", {"taken_from": run.name})
        shutil.rmtree(work)
        commit(part, work)
        return run.name
    return None


def record(found: dict[str, Any], work: Path) -> None:
    """Leave the `fingerprint` of a stage that is done, for runs to come."""
    write_json(work / _NAME, found)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without links
        shutil.copy2(source, target)
