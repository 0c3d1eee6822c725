"""The base model: every training of Algorithm 1 that says "base" starts from it (lines 3 and 18).

Reads: ``base.path``; for a model made on the spot also the run's training prompts, and dialogues of our
own without any label. Leaves: ``base/base.json`` with the folder and, for a model of the hub, its revision
(for one that is served elsewhere: its name, and where); ``base/model`` where the model was made here (its
path is then written from ``base/`` on, so that a run can be moved), ``base.files`` where a cluster needs a
copy of the hub's files.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tqdm import tqdm

from data_prep.experts.offline import profile, respond_to
from data_prep.files import write_json
from data_prep.prompt import PromptTemplates, render
from data_prep.rows import read_rows
from data_prep.sample_dialogues import unlabelled
from recipe.models import base_cache, hub, named, tiny
from recipe.models.endpoint import endpoint_of
from recipe.run.files import base_of, read_json
from recipe.run.process import bar_style
from recipe.run.run import Run
from rewards.labels import corpus_labels


def make(run: Run, work: Path) -> None:
    """Find the base model, or make it.

    Raises:
        ModelError: MODEL names nothing that can be loaded.
    """
    config = run.config
    if config.evaluate.of:
        other = Path(config.evaluate.of)
        place = str(base_of(other))
        write_json(work / "base.json", read_json(other / "base/base.json") | {"path": place})
        return
    if elsewhere := endpoint_of(config):
        write_json(work / "base.json", {"path": config.base.path, "at": elsewhere.endpoints[0].address})
        return
    path = named.resolve(config.base.path)
    if path == "builtin:tiny":
        _make_here(run, work)
        found = {"path": "model"}
    elif named.is_hub_id(path):
        # A cluster's other nodes see the run's folder, and not this machine's cache.
        here = run.folder / "base.files" if os.environ.get("RAY_ADDRESS") else None
        fetched = hub.fetch(path, here)
        place = f"../{here.name}" if here else str(fetched.folder)
        found = {"path": place, "hub_id": path, "revision": fetched.revision}
    else:
        found = {"path": path}
    write_json(work / "base.json", found)


def _make_here(run: Run, work: Path) -> None:
    """Pretrain `builtin:tiny`, unless a run before this one has made the same."""
    own, rows = run.config.base.pretrain, []
    for name in ("train", "held_out"):  # which dialogues are held out is a matter of the run's seed
        path = run.folder / f"data/{name}.parquet"
        rows += read_rows(path) if path.exists() else []
    words = {message["content"] for row in rows for message in row["prompt"]}
    words |= {respond_to(row) for row in rows}
    texts, more = readings(run.templates, own.dialogues, own.seed), sorted(words)
    kept = base_cache.place(texts, more, own)
    if base_cache.take(kept, work):
        print(f"  the base is taken from {kept}", flush=True)
        return
    shutil.rmtree(work / "model", ignore_errors=True)  # of an attempt that was ended before the step was
    with tqdm(total=own.steps, desc="  pretraining", unit="step", **bar_style()) as bar:
        losses = tiny.pretrain(
            texts,
            work / "model",
            own.seed,
            more_texts=more,
            steps=own.steps,
            batch=own.batch,
            lr=own.lr,
            shown=lambda step, loss: bar.update(1) and None,
        )
    write_json(work / "pretraining.json", {"texts": len(texts), "losses": losses})
    base_cache.keep(work, kept)


def readings(templates: PromptTemplates, number: int, seed: int) -> list[str]:
    """Unlabelled dialogues as a base reads them: in the prompts' chat form, the last line as answer."""
    texts = []
    for corpus, turns in unlabelled(seed, number):
        name = turns[-1]["speaker"]
        spoken = [turn["text"] for turn in turns if turn["speaker"] == name]
        persona = {"name": name, "profile": profile(name, spoken)}
        messages = render(turns[:-1], persona, corpus_labels(corpus), templates)
        texts.append(tiny.as_chat([*messages, {"role": "assistant", "content": turns[-1]["text"]}]))
    return texts
