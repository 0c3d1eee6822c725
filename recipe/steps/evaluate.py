"""Checkpoints and baselines on the test splits, which nothing else reads, and on a few training rows.

Reads: ``data/{test,train}.parquet`` and the checkpoints of ``evaluate.stages``. Leaves: ``eval/answers``,
``eval/<checkpoint>/{records,summary,summary_clean,answers_of}.json``, ``predictions/<corpus>.parquet``; of a
fixed sample of training rows ``{records,summary}_train.json``: what a checkpoint knows by heart; of other
wordings of the prompt, where they are asked for, ``summary_paraphrases.json``. No line of Algorithm 1: it is
how its result (line 20) is judged.
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
from data_prep.prompt import load_paraphrases, render_again
from data_prep.rows import read_rows, write_rows
from recipe.draws import draw_stratified
from recipe.evaluation.answers import read_answers, score_answers, write_part
from recipe.evaluation.baselines import BASELINES
from recipe.evaluation.measures import summarise
from recipe.evaluation.paraphrases import spread
from recipe.evaluation.predictions import FOLDER, write_predictions
from recipe.models import weights
from recipe.models.endpoint import answers_of, endpoint_of
from recipe.models.fit_prompts import fit_rows
from recipe.run import manifest
from recipe.run.files import checkpoint_folders, read_json, wanted_checkpoints
from recipe.run.process import run_stage
from recipe.run.run import Run, say

_PARAPHRASE = "paraphrase_"


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
    test = read_rows(run.folder / "data/test.parquet")
    wordings = load_paraphrases(run.config.prompts.dir, run.config.evaluate.get("paraphrases", 0))
    asked = {"test": (test, run.templates), "train": (training_sample(run), run.templates)}
    asked |= {f"{_PARAPHRASE}{i}": (render_again(test, w), w) for i, w in enumerate(wordings, start=1)}
    elsewhere = endpoint_of(run.config)
    splits = {
        name: list(rows) if elsewhere else fit_rows(rows, run.base, run.config, templates)[0]
        for name, (rows, templates) in asked.items()
        if rows
    }
    for name, rows in splits.items():
        write_rows(rows, work / f"{name}.parquet")
    config = run.stage_config("evaluate")
    reads = {stage: ("data", _step_of(run, model)) for stage, model in pending.items()}
    for steps in reads.values():
        run.see_sound(steps)
    prompts = [work / f"{name}.parquet" for name in splits]
    keys = {stage: _key(run, model, prompts) for stage, model in pending.items()}
    with open_dict(config):
        data = {name: str(work / f"{name}.parquet") for name in splits}
        config.job = {"data": data, "out": str(work), "models": pending, "of": keys}
    total = sum(map(len, splits.values())) * len(pending)
    with run.timed("eval/answers", work):
        if elsewhere:
            for name, rows in splits.items():
                said = answers_of(rows, elsewhere, work / name)
                write_part(said, work / f"base/{name}/part_00000000.parquet", keys["base"])
        else:
            run.retried(lambda: run_stage("evaluate", config, work, total=total))
    for stage in pending:
        answers = {name: read_answers(work / stage / name, keys[stage]) for name in splits}
        score = partial(_score_splits, splits=splits, answers=answers, key=keys[stage])
        run.do(f"eval/{stage}", score, reads[stage])


def training_sample(run: Run) -> list[dict[str, Any]]:
    """At most ``evaluate.train_rows`` rows that a run trains on, stratified, the same for its checkpoints.

    Where another run's checkpoints are scored, they are that run's.
    """
    path = Path(run.config.evaluate.of or run.folder) / "data/train.parquet"
    most = run.config.evaluate.get("train_rows") or 0  # a run of before it was a setting has none
    if not most or not path.is_file():
        return []
    rows = read_rows(path)
    return [rows[i] for i in draw_stratified(rows, most, run.config.run.seed)]


def _wanted(run: Run) -> dict[str, Path]:
    made = checkpoint_folders(Path(run.config.evaluate.of or run.folder), run.config.flywheel.iterations)
    return wanted_checkpoints({"base": run.base} | made, run.config.evaluate.stages)


def _score_splits(
    run: Run,
    work: Path,
    splits: Mapping[str, Sequence[Mapping[str, Any]]],
    answers: Mapping[str, Mapping[str, Sequence[str]]],
    key: str,
) -> None:
    write_json(work / "answers_of.json", {"key": key})
    _score(run, work, splits["test"], answers["test"])
    if "train" in splits:
        records = score_answers(splits["train"], answers["train"])
        write_json(work / "records_train.json", records)
        write_json(work / "summary_train.json", summarise(records))
    paraphrases = [name for name in splits if name.startswith(_PARAPHRASE)]
    if paraphrases:
        found = [summarise(score_answers(splits[name], answers[name])) for name in paraphrases]
        write_json(work / "summary_paraphrases.json", spread(found))


def _step_of(run: Run, model: str) -> str:
    """The step that made a model; of another run: its folder. Base models that no run has made: ``base``."""
    folder = Path(model).parent
    if not (folder / manifest.NAME).is_file() or model == str(run.base):
        return "base"
    return folder.relative_to(run.folder).as_posix() if folder.is_relative_to(run.folder) else str(folder)


def _key(run: Run, model: str, prompts: Sequence[Path]) -> str:
    """What answers are answers of: without it, those of a checkpoint that has been made anew would count."""
    own = run.config.evaluate
    files = manifest.model_files(Path(model).parent)
    what = [files, weights.digest(model), [*map(sha256, prompts)], own.samples, own.temperature]
    return hashlib.sha256(json.dumps(what).encode()).hexdigest()[:16]


def _score(
    run: Run,
    work: Path,
    rows: Sequence[Mapping[str, Any]],
    answers: Mapping[str, Sequence[str]],
) -> None:
    records = score_answers(rows, answers)
    write_predictions(rows, records, work / FOLDER)
    write_json(work / "records.json", records)
    write_json(work / "summary.json", summarise(records))
    found = read_json(run.folder / "data/leakage.json")
    leaking = {name for o in found if o["unit"] == "utterance" for name in o["ids"]}
    if clean := [r for r in records if r["row_id"] not in leaking]:
        write_json(work / "summary_clean.json", summarise(clean))
