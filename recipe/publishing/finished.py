"""What may be handed on: a checkpoint of a run that is finished, scored, and as its steps left it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data_prep.files import sha256
from recipe.evaluation.results import missing_records, read_evaluation, read_summaries, unscored
from recipe.models.chat_template import check_model
from recipe.models.weights import ModelError
from recipe.run import manifest
from recipe.run.checkpoints import is_whole_model
from recipe.run.files import checkpoint_folders, read_config, read_json, read_state, run_checkpoint
from recipe.run.flatten import plain


@dataclass(frozen=True)
class Finished:
    """A checkpoint of a finished run.

    Attributes:
        folder: of the run.
        config: its settings, for reading.
        stage: the checkpoint's name: ``cold``, ``rl_1``, ``retrained_2``, ...
        scored: the stage below whose name its measures are; older runs have ``retrained`` for the last one.
        model: its Hugging Face folder.
        run_id: the run's identity, which a move or a new name does not change.
        results: stage -> corpus (and ``avg``) -> measures, baselines included, in the order of training.
        records: stage -> the records that these come from.
    """

    folder: Path
    config: DictConfig
    stage: str
    scored: str
    model: Path
    run_id: str
    results: dict[str, dict[str, Any]]
    records: dict[str, list[dict[str, Any]]]

    @property
    def learnt_buffer(self) -> bool:
        """Whether it was trained on the last B, which is the one that is published."""
        return self.stage == f"retrained_{self.config.flywheel.iterations}"

    @property
    def made_up(self) -> bool:
        """Whether its dialogues are the project's own sample dialogues, and of no corpus."""
        return not self.config.raw_dir

    @property
    def base_path(self) -> str:
        """The base model as it was named: a built-in one, a folder or a hub id."""
        return str(self.config.base.path)


def finished_run(name: str) -> Finished:
    """Find a checkpoint as `make chat` names it, and see that it can be handed on.

    Args:
        name: ``RUN`` (the last checkpoint) or ``RUN:cold``, ``RUN:rl``, ``RUN:retrained_1``, ...

    Raises:
        ValueError: there is no such checkpoint, the run is unfinished or has changed since, or the model
            cannot be used without it; one line with the remedy.
    """
    folder, stage, model = run_checkpoint(name)
    config = read_config(folder)
    _see_finished(folder, config)
    if missing := missing_records(folder):
        raise ValueError(f"{folder}: {missing[0]}")
    records = read_evaluation(folder, "records")
    results = read_summaries(folder, records)
    scored = _scored_as(stage, results, config)
    if left := unscored(folder, config, results):
        raise ValueError(f"{folder} is unfinished: no score yet for {', '.join(left)}; {_resume(folder)}")
    if scored is None:
        raise ValueError(
            f"{folder}: the checkpoint {stage} has no scores, and a card without numbers says nothing; have "
            f'it scored: make train NAME={folder.name} ARGS="evaluate.stages=[cold,rl,retrained] '
            'run.resume=true"'
        )
    manifest.require(folder, model.parent.relative_to(folder).as_posix())
    _see_usable(model, config)
    return Finished(folder, config, stage, scored, model, run_id(folder), results, records)


def _see_finished(folder: Path, config: DictConfig) -> None:
    if OmegaConf.select(config, "evaluate.of"):
        raise ValueError(f"{folder} scores another run and trained nothing; publish {config.evaluate.of}")
    wanted = checkpoint_folders(folder, config.flywheel.iterations)
    if missing := [name for name, path in wanted.items() if not path.is_dir()]:
        raise ValueError(
            f"{folder} is unfinished: it has no checkpoint {', '.join(missing)} yet; {_resume(folder)}"
        )


def _resume(folder: Path) -> str:
    return f'go on with it: make train NAME={folder.name} ARGS="run.resume=true", beside its other ARGS'


def _scored_as(stage: str, results: dict[str, Any], config: DictConfig) -> str | None:
    """The name of a checkpoint's scores; the last ones of older runs are called by their kind alone."""
    kind, _, iteration = stage.partition("_")
    if stage in results:
        return stage
    return kind if kind in results and iteration == str(config.flywheel.iterations) else None


def _see_usable(model: Path, config: DictConfig) -> None:
    """See that others can load and ask the model.

    Raises:
        ValueError: weights are missing or cut, or there is no tokenizer or chat template.
    """
    step = model.parent
    remedy = f"restore it, or delete {step} and what was made from it, and resume the run"
    if not is_whole_model(model):
        raise ValueError(f"{model}: its configuration or weights (*.safetensors) are not whole; {remedy}")
    try:
        check_model(str(model), template_options(config), str(model))
    except ModelError as error:
        reason = str(error).partition(";")[0].removeprefix("MODEL=")
        raise ValueError(f"{reason}; copy the base model's tokenizer files there, or {remedy}") from None


def template_options(config: DictConfig) -> dict[str, Any]:
    """What the chat template is given beside the messages (``data.apply_chat_template_kwargs``)."""
    options = OmegaConf.select(config, "data.apply_chat_template_kwargs")
    return {} if options is None else plain(options)


def run_id(folder: Path) -> str:
    """What a run is known by: its training prompts, and when they were made."""
    finished = read_state(folder).get("data", {}).get("finished")
    prompts = folder / "data/train.parquet"
    if not prompts.is_file():
        raise ValueError(f"{prompts} is missing, and with it what the run was trained on; restore it")
    return hashlib.sha256(json.dumps([finished, sha256(prompts)]).encode()).hexdigest()[:16]


def base_of_run(folder: Path) -> dict[str, Any]:
    """What step ``base`` noted of the base model: its ``path``, of the hub's ``hub_id`` and ``revision``."""
    return read_json(folder / "base/base.json", {})
