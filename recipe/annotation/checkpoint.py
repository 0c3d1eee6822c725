"""Which checkpoint is asked, with the settings that `make eval` would use for it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from data_prep.files import sha256
from data_prep.own_dialogues.read import Overview
from data_prep.prompt import load_templates
from recipe import score
from recipe.run import manifest
from recipe.run.files import base_of, checkpoint_folders, in_iterations, named_checkpoint, run_folder


def configured(
    model: str | None, run: str | None, overrides: Sequence[str]
) -> tuple[DictConfig, str, str | None]:
    """What `make eval` would use for the same checkpoint.

    Args:
        model: as MODEL of `make train`.
        run: ``NAME`` (its last checkpoint) or ``NAME:STAGE`` with base, cold, rl, retrained, rl_1, ...
        overrides: Hydra's, as for `make eval`.

    Returns:
        The configuration; the checkpoint's name for people; of a run the checkpoint's folder or hub id.

    Raises:
        ValueError: neither or both are named, or there is no such checkpoint.
        HydraException: an override does not exist.
    """
    if bool(run) == bool(model):
        raise ValueError("name one: make annotate MODEL=... or make annotate RUN=<name>[:cold|rl|retrained]")
    if not run:
        config = score.configured([f"MODEL={model}", *overrides])
        if config.base.path == "builtin:tiny":
            raise ValueError(
                "the tiny model is made by a run; name that run instead: make annotate RUN=<name>"
            )
        return config, str(config.base.name), None
    name, _, stage = run.partition(":")
    folder = run_folder(name)
    known = checkpoint_folders(folder, max((k for k, _ in in_iterations(folder, "*")), default=0))
    there = {key: path for key, path in known.items() if path.is_dir()}
    try:
        stage = "base" if stage == "base" else named_checkpoint(there, stage or next(reversed(there), "cold"))
    except ValueError as error:
        raise ValueError(f"the run {folder.name}: {error}") from None
    config = score.configured([f"RUN={name}", f"evaluate.stages=[{stage}]", *overrides])
    if stage == "base":
        return config, f"{folder.name}:base", str(base_of(folder))
    manifest.require(folder, there[stage].parent.relative_to(folder).as_posix())
    return config, f"{folder.name}:{stage}", str(there[stage].resolve())


def default_labels(config: DictConfig) -> str:
    """The corpus whose labels are read where none are named: a run's, if it has one alone, else MELD."""
    return config.corpora[0] if len(config.corpora or ()) == 1 else "meld"


def decides(
    config: DictConfig, source: Path, found: Overview, labels: Sequence[str], model: str
) -> dict[str, Any]:
    """Whatever decides an answer, by names that people know."""
    from recipe.models import weights

    return {
        "file": sha256(source),
        "columns": dict(found.columns),
        "labels": list(labels),
        "model": weights.digest(model),
        "prompts": load_templates(config.prompts.dir).digest,
        "max_prompt_length": config.data.max_prompt_length,
        "max_response_length": config.data.max_response_length,
        "samples": config.evaluate.samples,
        "temperature": config.evaluate.temperature if config.evaluate.samples > 1 else 0.0,
        "personas": [config.personas.scope, config.expert.kind],
    }


def model_of(config: DictConfig) -> str:
    """The folder of a model that no run has made.

    Raises:
        ModelError: it cannot be had.
    """
    from recipe.models import hub, named

    path = named.resolve(config.base.path)
    return str(hub.fetch(path).folder) if named.is_hub_id(path) else path
