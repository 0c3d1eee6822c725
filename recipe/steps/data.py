"""Prompts with their labels, from the corpora: what Algorithm 1 is given as the original dataset.

Reads: ``raw_dir`` (null: the sample dialogues). Leaves: ``data/{train,dev,test}.parquet``, the leakage
table, the data card and, with experts, their personas (Eq. 4).
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from data_prep.card import write_card
from data_prep.corpora import SPLITS, read_corpora
from data_prep.experts import personas
from data_prep.experts.client import Settings
from data_prep.experts.soft_labels import ask_labels
from data_prep.files import cache_dir, write_json
from data_prep.leakage import leaking_dialogues, overlaps, write_overlaps
from data_prep.prepare import dialogue_rows, prepare
from data_prep.rows import read_rows, write_rows
from recipe.draws import draw_stratified
from recipe.models.self_expert import is_self
from recipe.run.experts import asked
from recipe.run.files import raw_dir_of
from recipe.run.run import Run


def make(run: Run, work: Path) -> None:
    """Prepare the three splits, draw what the settings ask for, and have the experts write personas.

    Raises:
        DataError: a corpus cannot be used; the message names file, line and remedy.
        ValueError: a split holds no labelled utterance.
    """
    config = run.config
    raw_dir = raw_dir_of(config)
    kind, scope = config.labels.kind, config.personas.scope
    counts = prepare(raw_dir, work, config.corpora, config.prompts.dir, labels=kind, scope=scope)
    limits = {"train": config.train_rows, "dev": config.dev_rows}
    found = overlaps(read_corpora(raw_dir, config.corpora))
    write_overlaps(found, work / "leakage.json")
    drop = set()
    if config.decontaminate == "drop":
        drop = leaking_dialogues(read_corpora(raw_dir, config.corpora))
    for split in SPLITS:
        rows = read_rows(work / f"{split}.parquet")
        if split == "train" and drop:
            rows = [r for r in rows if (r["data_source"], r["extra_info"]["dialogue_id"]) not in drop]
            counts[split]["after_decontamination"] = len(rows)
        if not rows:
            raise ValueError(f"the corpora hold no labelled {split} utterance")
        if split == "train" and config.flywheel.held_out:
            held_out = _held_out(rows, config.flywheel.held_out, config.run.seed)
            kept_out = [row for row in rows if _dialogue_key(row) in held_out]
            write_rows(kept_out, work / "held_out.parquet")
            counts[split]["held_out"] = len(kept_out)
            rows = [row for row in rows if _dialogue_key(row) not in held_out]
        if split == "test" and config.test_rows:
            corpora = sorted({row["data_source"] for row in rows})
            per_corpus = [[r for r in rows if r["data_source"] == corpus] for corpus in corpora]
            rows = [r for part in per_corpus for r in _drawn(part, config.test_rows, config.run.seed)]
        else:
            rows = _drawn(rows, limits.get(split), config.run.seed)
        write_rows(rows, work / f"{split}.parquet")
        counts[split]["used"] = len(rows)
    with asked(run, work) as experts:
        if experts:
            _ask_personas(run, work, experts)
            if kind == "expert":
                _ask_labels(run, work, experts)
    write_card(work, raw_dir, config.corpora, config.prompts.dir)
    write_json(work / "counts.json", counts)


def _drawn(rows: list[dict[str, Any]], most: int | None, seed: int) -> list[dict[str, Any]]:
    return [rows[i] for i in draw_stratified(rows, most, seed)]


def _held_out(rows: list[dict[str, Any]], share: float, seed: int) -> set[str]:
    """Keys of the training dialogues that B never sees: SELF-EMO's own test split, a share of each corpus."""
    draw, found = random.Random(seed), set()
    for corpus in sorted({row["data_source"] for row in rows}):
        keys = sorted({_dialogue_key(row) for row in rows if row["data_source"] == corpus})
        found.update(draw.sample(keys, min(max(1, round(share * len(keys))), len(keys) - 1)))
    return found


def _ask_personas(run: Run, work: Path, experts: Settings) -> None:
    """Render the rows again with personas from the experts, who see only the dialogues that are used."""
    names = [*SPLITS, *(["held_out"] if (work / "held_out.parquet").exists() else [])]
    rows = {name: read_rows(work / f"{name}.parquet") for name in names}
    wanted = {_dialogue_key(row) for part in rows.values() for row in part}
    scope, kind = run.config.personas.scope, run.config.labels.kind
    everything = read_corpora(raw_dir_of(run.config), run.config.corpora)
    dialogues = [d for d in everything if personas.key(d) in wanted]
    used = {row["extra_info"]["row_id"] for part in rows.values() for row in part}
    seen = {
        personas.key(part): part
        for d in dialogues
        for i, utterance in enumerate(d.utterances)
        if f"{d.corpus}:{d.dialogue_id}:{utterance.utterance_id}" in used
        for part in (personas.seen_by(d, i, scope),)
    }
    profiles, answers = personas.ask_personas(
        seen.values(), experts, cache_dir() / "experts", needed=not is_self(run.config)
    )
    answers.write(work / "personas", profiles)
    print(answers.summary("personas"), flush=True)
    by_id = {
        (row["extra_info"]["row_id"], labels): row
        for dialogue in dialogues
        for labels in {"gold", kind}
        for row in dialogue_rows(dialogue, run.templates, profiles, labels=labels, scope=scope)
    }
    for split, part in rows.items():
        labels = "gold" if split == "test" else kind
        again = (by_id[row["extra_info"]["row_id"], labels] for row in part)
        write_rows(again, work / f"{split}.parquet")


def _ask_labels(run: Run, work: Path, experts: Settings) -> None:
    """Soft labels of whatever is learnt from (``labels.kind: expert``); the test split keeps its own."""
    rows = {path.stem: read_rows(path) for path in sorted(work.glob("*.parquet")) if path.stem != "test"}
    learnt = [row for part in rows.values() for row in part]
    found, answers = ask_labels(learnt, experts, cache_dir() / "experts", needed=not is_self(run.config))
    answers.write(work / "labels", found)
    print(answers.summary("labels"), flush=True)
    for name, part in rows.items():
        for row in part:
            if label := found.get(row["extra_info"]["row_id"]):
                row["reward_model"]["ground_truth"] = label
        write_rows(part, work / f"{name}.parquet")


def _dialogue_key(row: dict[str, Any]) -> str:
    info = row["extra_info"]
    return f"{row['data_source']}:{info['split']}:{info['dialogue_id']}"
