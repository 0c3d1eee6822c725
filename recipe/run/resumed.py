"""Whether a run may go on with the settings that it is given now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from data_prep.masking import masked
from recipe.run.files import read_own_config
from recipe.run.flatten import flatten, load_config, plain
from recipe.run.shortcuts import CONF

#: What may differ in a resumed run: how it is done, and what is not done yet.
_FREE = (
    *(f"run.{name}" for name in ("name", "root", "resume", "retries", "reuse", "preload")),
    *("run.patience", "run.rejoin", "evaluate"),
    *(f"expert.{name}" for name in ("concurrency", "timeout", "retries", "reasks", "max_cost")),
    *("expert.max_tokens", "expert.max_tokens_cap", "flywheel.iterations", "cluster", "env", "plan"),
)
#: What may not, for all that: the run whose checkpoints are scored, for some of them may be by now, and who
#: answers in place of one.
_KEPT = ("evaluate.of", "evaluate.endpoint.endpoints")
#: Settings with which a checkpoint is scored once and for all.
_OF_SCORES = [
    f"evaluate.{n}" for n in ("samples", "temperature", "train_rows", "paraphrases", "entropy_rows")
]
_FREE_OF_ENDPOINTS = ("prompt_price", "answer_price", "limit_name")


def check_same(folder: Path, new: DictConfig) -> None:
    """A resumed run must keep its settings: what is done was done with them.

    One that has come up since it was begun, and stands as `conf/self_emo.yaml` has it, could not have been
    given.

    Args:
        folder: the run's.
        new: the composed configuration that it is to go on with.

    Raises:
        ValueError: settings that differ, or prompts that do.
    """
    before, after = (flatten(_settled(config)) for config in (read_own_config(folder), new))
    today = flatten(_settled(load_config(CONF / "self_emo.yaml")))
    since = {key for key in after.keys() - before.keys() if key in today and today[key] == after[key]}
    every = sorted((before.keys() | after.keys()) - since)
    changed = [key for key in every if before.get(key) != after.get(key)]
    _tell_what_is_scored(folder, [key for key in changed if key in _OF_SCORES])
    changed = [key for key in changed if not _is_free(key)]
    told = [f"{key}={after[key]}" for key in sorted(since) if not _is_free(key)]
    if told and not changed:
        print(
            f"the run was begun without settings that have come up since; it goes on with {', '.join(told)}"
        )
    if changed == ["prompts.digest"]:
        raise ValueError(
            f"the prompt templates of prompts.dir={new.prompts.dir} are not those the run began with (digest "
            f"{before.get('prompts.digest')} then, {after['prompts.digest']} now); restore system.txt and "
            "user.txt, or give another NAME=..."
        )
    if changed:
        shown = "; ".join(f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed[:5])
        raise ValueError(
            f"a resumed run keeps its settings, but these changed: {shown}. Give the ARGS that it "
            "was begun with, and run.resume=true beside them, or another NAME=..."
        )


def _tell_what_is_scored(folder: Path, changed: Sequence[str]) -> None:
    scored = sorted(path.parent.name for path in folder.glob("eval/*/answers_of.json"))
    if changed and scored:
        print(
            f"{', '.join(scored)} stay as they are scored: to score them again with another "
            f"{', '.join(changed)}, delete their folders in {folder / 'eval'}"
        )


def _is_free(key: str) -> bool:
    return key not in _KEPT and any(key == free or key.startswith(free + ".") for free in _FREE)


def _settled(config: DictConfig) -> dict[str, Any]:
    """A run's settings as they are compared: as they are written, references left as they stand."""
    settings = masked(plain(config, resolve=False))
    for endpoint in settings.get("expert", {}).get("endpoints") or ():
        for name in _FREE_OF_ENDPOINTS:
            endpoint.pop(name, None)
    return settings
