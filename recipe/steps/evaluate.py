"""Checkpoints and baselines on the test splits, which nothing else reads.

Reads: ``data/test.parquet`` and the checkpoints of ``evaluate.stages``. Leaves: ``eval/answers`` and
``eval/<checkpoint>/{records,summary,summary_clean,answers_of}.json``. No line of Algorithm 1: it is how its
result (line 20) is judged.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import open_dict

from data_prep.files import sha256, write_json
from data_prep.rows import read_rows, write_rows
from recipe.evaluation.answers import read_answers, score_answers
from recipe.evaluation.baselines import BASELINES
from recipe.evaluation.measures import summarise
from recipe.models import weights
from recipe.models.fit_prompts import fit_rows
from recipe.run import manifest
from recipe.run.files import checkpoint_folders, read_json, wanted_checkpoints
from recipe.run.process import run_stage
from recipe.run.run import Run, say


def baselines(run: Run) -> None:
    """What needs no language model; before training, so that nothing late depends on it."""
    pending = {n: answer for n, answer in BASELINES.items() if not (run.folder / f"eval/{n}").exists()}
    splits = [read_rows(run.folder / f"data/{s}.parquet") for s in ("train", "test") if pending]
    for name, answer in pending.items():
        try:
            said = {row_id: [text] for row_id, text in answer(*splits).items()}
        except ValueError as error:  # a corpus without gold training rows; the run does without
            print(f"no {name} baseline: {error}", flush=True)
            continue
        run.do(f"eval/{name}", partial(_score, rows=splits[1], answers=said), ("data",))


def checkpoints(run: Run) -> None:
    """Score the checkpoints that are not scored yet; one process answers for all of them."""
    pending = {s: str(m) for s, m in _wanted(run).items() if not (run.folder / f"eval/{s}").exists()}
    if not pending:
        return
    work = run.folder / "eval/answers"
    work.mkdir(parents=True, exist_ok=True)
    say(f"eval/answers of {', '.join(pending)}")
    rows, _ = fit_rows(read_rows(run.folder / "data/test.parquet"), run.base, run.config, run.templates)
    write_rows(rows, work / "test.parquet")
    config = run.stage_config("evaluate")
    reads = {stage: ("data", _step_of(run, model)) for stage, model in pending.items()}
    for steps in reads.values():
        run.see_sound(steps)
    keys = {stage: _key(run, model, work / "test.parquet") for stage, model in pending.items()}
    with open_dict(config):
        config.job = {"data": str(work / "test.parquet"), "out": str(work), "models": pending, "of": keys}
    with run.timed("eval/answers", work):
        run.retried(lambda: run_stage("evaluate", config, work, total=len(rows) * len(pending)))
    for stage in pending:
        answers = read_answers(work / stage, keys[stage])
        run.do(f"eval/{stage}", partial(_score, rows=rows, answers=answers, key=keys[stage]), reads[stage])


def _wanted(run: Run) -> dict[str, Path]:
    made = checkpoint_folders(Path(run.config.evaluate.of or run.folder), run.config.flywheel.iterations)
    return wanted_checkpoints({"base": run.base} | made, run.config.evaluate.stages)


def _step_of(run: Run, model: str) -> str:
    """The step that made a model; of another run: its folder. Base models that no run has made: ``base``."""
    folder = Path(model).parent
    if not (folder / manifest.NAME).is_file() or model == str(run.base):
        return "base"
    return folder.relative_to(run.folder).as_posix() if folder.is_relative_to(run.folder) else str(folder)


def _key(run: Run, model: str, prompts: Path) -> str:
    """What answers are answers of: without it, those of a checkpoint that has been made anew would count."""
    own = run.config.evaluate
    files = manifest.model_files(Path(model).parent)
    what = [files, weights.digest(model), sha256(prompts), own.samples, own.temperature, own.batch_rows]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _score(
    run: Run,
    work: Path,
    rows: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Sequence[str]],
    key: str | None = None,
) -> None:
    records = score_answers(rows, answers)
    if key:
        write_json(work / "answers_of.json", {"key": key})
    write_json(work / "records.json", records)
    write_json(work / "summary.json", summarise(records))
    found = read_json(run.folder / "data/leakage.json")
    leaking = {name for o in found if o["unit"] == "utterance" for name in o["ids"]}
    if clean := [r for r in records if r["row_id"] not in leaking]:
        write_json(work / "summary_clean.json", summarise(clean))
