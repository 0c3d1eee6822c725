"""A run's own files: folder, configuration, state, metrics, buffers. What is broken is named."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pyarrow.parquet as pq
import yaml
from omegaconf import DictConfig, OmegaConf

from data_prep.corpora import SPLITS
from data_prep.masking import masked, without_outside
from data_prep.sample_dialogues import sample_corpora
from recipe.run.flatten import load_config, plain
from recipe.run.shortcuts import CONF

_ITERATION = re.compile(r"iter_(0|[1-9][0-9]{0,8})", re.ASCII)


def run_folder(name: str) -> Path:
    """The folder of a run, from its path or its name below ``runs/``.

    Raises:
        ValueError: it is no run.
    """
    below = Path("runs") / name
    folder = Path(name) if Path(name).is_dir() and not (below / "state.json").is_file() else below
    for needed in ("state.json", "config.yaml"):
        if not (folder / needed).is_file():
            raise ValueError(f"{folder}: no run, there is no {needed}; `ls runs` shows the runs")
    return folder


def read_config(folder: Path) -> DictConfig:
    """The settings that a run was begun with, for reading: the folder may be somebody else's.

    Nothing in it refers to the environment of whoever reads it, and it names no variable for a process but
    those that ``conf/hardware`` names, too.

    Raises:
        ValueError: the file is broken.
    """
    own = read_own_config(folder)
    written = plain(own, resolve=False)
    settings = masked(without_outside(written))
    known = {name for path in (CONF / "hardware").glob("*.yaml") for name in load_config(path).get("env", {})}
    if isinstance(variables := settings.get("env"), dict):
        settings["env"] = {name: value for name, value in variables.items() if name in known}
    return own if settings == written else OmegaConf.create(settings)  # to make one takes a while


def read_own_config(folder: Path) -> DictConfig:
    """The settings as they were written, references to the environment included, of a run that goes on.

    Raises:
        ValueError: the file is broken.
    """
    path = folder / "config.yaml"
    try:
        return load_config(path)
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: no YAML ({reason}); restore it from the page's settings") from None


def read_state(folder: Path) -> dict[str, dict[str, float]]:
    """Finished step -> when it was finished, and the seconds that it took.

    Raises:
        ValueError: the file is broken.
    """
    remedy = 'write {"steps": {}} to it, or resume the run, which does: only times are lost'
    return read_json(folder / "state.json", {}, remedy).get("steps", {})


def base_of(folder: Path) -> Path:
    """The folder or hub id of a run's base model, once its step ``base`` is done; also after a move.

    Raises:
        ValueError: the step is not done, or its file is broken.
    """
    path = folder / "base/base.json"
    named = read_json(path)
    if not isinstance(named, dict) or not isinstance(named.get("path"), str):
        raise ValueError(f"{path} names no model; delete {path.parent} and resume the run")
    # Older runs name their own model by where it was made.
    found = [own for own in (path.parent / named["path"], path.parent / "model") if own.is_dir()]
    return Path(os.path.normpath(found[0])) if found else Path(named["path"])


def raw_dir_of(config: DictConfig) -> Path:
    """The folder of the corpora: ``raw_dir``, or the sample dialogues where it is null."""
    if config.raw_dir:
        return Path(config.raw_dir)
    sizes = {split: config.samples[split] for split in SPLITS}
    return sample_corpora(sizes, config.samples.seed)


def checkpoint_folders(folder: Path, iterations: int) -> dict[str, Path]:
    """Where a run keeps its cold start and what iterations 1..K make of it; they need not be there yet.

    Returns:
        ``cold``, ``rl_1``, ``retrained_1``, ``rl_2``, ... -> Hugging Face folder, in that order.
    """
    found = {"cold": folder / "iter_0/sft/model"}
    for k in range(1, iterations + 1):
        found |= {f"rl_{k}": folder / f"iter_{k}/rl/model", f"retrained_{k}": folder / f"iter_{k}/sft/model"}
    return found


def wanted_checkpoints(known: Mapping[str, Path], kinds: Iterable[str]) -> dict[str, Path]:
    """Those of ``known`` that are asked for: by name (``rl_2``), or of every iteration (``rl``)."""
    asked = set(kinds)
    return {name: path for name, path in known.items() if name in asked or name.partition("_")[0] in asked}


def named_checkpoint(known: Iterable[str], name: str) -> str:
    """A checkpoint's full name; ``rl`` and ``retrained`` are those of the last iteration.

    Raises:
        ValueError: there is none of that name.
    """
    known = list(known)
    of_kind = [one for one in known if one == name or one.partition("_")[0] == name]
    if not of_kind:
        raise ValueError(f"there is no checkpoint {name!r}; choose one of {', '.join(known) or 'none yet'}")
    return of_kind[-1]


def in_iterations(folder: Path, below: str) -> list[tuple[int, Path]]:
    """What is there of ``iter_<k>/<below>``, a pattern, with its k; by k, then by name.

    What somebody leaves beside a run's own folders, such as a copy ``iter_1.bak``, is none of them.
    """
    own = [(int(path.name[5:]), path) for path in folder.glob("iter_*") if _ITERATION.fullmatch(path.name)]
    return [(k, found) for k, path in sorted(own) for found in sorted(path.glob(below))]


def run_checkpoint(name: str) -> tuple[Path, str, Path]:
    """A run's checkpoint: ``NAME`` (the last one) or ``NAME:STAGE`` with cold, rl_1, retrained_1, ...

    Returns:
        The run's folder, the checkpoint's full name, its Hugging Face folder.

    Raises:
        ValueError: there is no such run, or it has not got that far.
    """
    run, _, stage = name.partition(":")
    folder = run_folder(run)
    known = checkpoint_folders(folder, max((k for k, _ in in_iterations(folder, "*")), default=0))
    there = {key: path for key, path in known.items() if path.is_dir()}
    try:
        stage = named_checkpoint(there, stage or next(reversed(there), "cold"))
    except ValueError as error:
        raise ValueError(f"the run {folder.name}: {error}") from None
    return folder, stage, there[stage]


_NEEDED = object()


def read_json(
    path: Path, default: Any = _NEEDED, remedy: str = "delete its folder and resume the run"
) -> Any:
    """The content of a JSON file, or ``default`` where there is none.

    Raises:
        ValueError: the file is broken, or missing without a default; the message ends with the ``remedy``.
    """
    if not path.exists():
        if default is _NEEDED:
            raise ValueError(f"{path} is missing; {remedy}")
        return default
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: no JSON ({error}); {remedy}") from None


def read_metrics(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Metrics per stage, in step order; a resumed stage's repeated steps count once, the later wins.

    Half a line, as a kill leaves it, is no line; `metrics_problems` tells of it.
    """
    stages = {}
    for _, path in in_iterations(folder, "*/metrics.jsonl"):
        by_step: dict[int, dict] = {}
        for entry in _lines(path)[0]:
            by_step.setdefault(entry["step"], {}).update(entry["data"])
        stages[f"{path.parent.parent.name}/{path.parent.name}"] = [
            {"step": step, "data": by_step[step]} for step in sorted(by_step)
        ]
    return stages


def metrics_problems(folder: Path) -> list[str]:
    """What to say of metrics that a kill has cost: broken lines, and RL steps that are without."""
    found = []
    for _, path in in_iterations(folder, "*/metrics.jsonl"):
        entries, broken = _lines(path)
        name = f"{path.parent.parent.name}/{path.parent.name}"
        if broken:
            found.append(f"{name}/metrics.jsonl: {broken} broken line(s), which a kill leaves, are left out")
        counts = read_json(path.with_name("counts.json"), {}) if path.parent.name == "rl" else {}
        missing = sorted(set(range(1, counts.get("steps", 0) + 1)) - {entry["step"] for entry in entries})
        if missing:
            found.append(
                f"{name} has no metrics of step {', '.join(map(str, missing))}: it was ended between the "
                "step's checkpoint and its metrics; the step's rollouts are there"
            )
    return found


def _lines(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The entries of a metrics file, and how many lines are none."""
    found, broken = [], 0
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            found.append({"step": int(entry["step"]), "data": dict(entry["data"])})
        except (ValueError, KeyError, TypeError):
            broken += 1
    return found, broken


def read_buffers(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """iteration -> rows of its buffer, without their prompts."""
    columns = ["data_source", "reward_model", "extra_info", "response", "response_from"]
    return {
        f"iter_{k}": pq.read_table(path, columns=columns).to_pylist()
        for k, path in in_iterations(folder, "buffer/buffer.parquet")
    }


def verdicts_name(judge: str) -> str:
    """What the files of a judge's verdicts are called, whatever the judge is."""
    return f"verdicts-{quote(judge, safe='')}"
