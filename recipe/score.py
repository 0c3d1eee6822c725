"""`make eval`: score a model, or the checkpoints of a run, on the official test splits, without training.

`python -m recipe.score [ENDPOINT=...] MODEL=... | RUN=... [RAW_DIR=...] [NAME=...] [hydra overrides]`. The
result is a run of its own, with answers, measures and a page; `run.resume=true` goes on with an interrupted
one.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from data_prep.disk import in_words
from data_prep.prompt import load_templates
from data_prep.setting_types import unknown_setting
from recipe.main import explain
from recipe.run.files import checkpoint_folders, run_folder, wanted_checkpoints
from recipe.run.flatten import flatten, plain
from recipe.run.scoring_config import own_experts, scoring_config
from recipe.run.shortcuts import CONF, expand

#: Variable with the key of the endpoint that is scored, where it wants one.
_KEY = "ENDPOINT_API_KEY"


def configured(arguments: Sequence[str]) -> DictConfig:
    """The configuration that a command line asks for.

    Args:
        arguments: MODEL=... or RUN=..., and overrides; with ENDPOINT=... the model is the one that is
            called so there, with the key in ENDPOINT_API_KEY if there is one. A run keeps its settings, so
            for RUN they may only change what is scored: ``evaluate``, ``raw_dir``, ``corpora``,
            ``test_rows``, ``run``, who writes personas: ``expert``, and ``data.max_prompt_length``.

    Raises:
        ValueError: neither or both are named, the run is none, or its experts are not known here.
        HydraException: an override does not exist.
    """
    run = [a.partition("=")[2] for a in arguments if a.startswith("RUN=")]
    endpoint = [a.partition("=")[2] for a in arguments if a.startswith("ENDPOINT=")]
    rest = [a for a in arguments if not a.startswith(("RUN=", "ENDPOINT="))]
    model = [a.partition("=")[2] for a in rest if a.startswith("MODEL=")]
    if endpoint and (run or not any(model)):
        raise ValueError(
            "an endpoint is asked for a model by the name that it has there: make eval "
            "ENDPOINT=https://host/v1 MODEL=name, its key, if it wants one, in ENDPOINT_API_KEY"
        )
    if bool(run) == bool(model):
        raise ValueError(
            "name one: make eval MODEL=... scores a model, make eval RUN=... a run's checkpoints"
        )
    if endpoint:
        return _behind(endpoint[-1], model[-1], [a for a in rest if not a.startswith("MODEL=")])
    return _of_run(run[0], rest) if run else _of_model(rest)


def _behind(address: str, model: str, arguments: Sequence[str]) -> DictConfig:
    overrides = expand(["hardware=cpu", "experiment=endpoint", "model=any", *arguments], os.environ)
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("self_emo", overrides=overrides)
    config.base.path, config.base.name = model, model.rstrip("/").rpartition("/")[2]
    asked = config.evaluate.endpoint.endpoints[0]
    asked.base_url, asked.key = address, _KEY if os.environ.get(_KEY) else None
    config.run.name = config.run.name or f"eval-{config.base.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return config


def _of_model(arguments: Sequence[str]) -> DictConfig:
    overrides = expand(arguments, os.environ)
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("self_emo", overrides=overrides)
        if config.base.experiment != "paper" and not any(o.startswith("experiment=") for o in arguments):
            overrides = [o for o in overrides if not o.startswith("experiment=")]
            config = compose("self_emo", overrides=["experiment=zero_shot", *overrides])
    config.evaluate.stages = ["base"]
    config.labels.kind = "gold"  # nothing is learnt from, so no expert is asked for soft ones
    config.run.name = config.run.name or f"eval-{config.base.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    return config


def _of_run(run: str, arguments: Sequence[str]) -> DictConfig:
    folder = run_folder(run)
    config = scoring_config(folder)
    experts = [a.partition("=")[2] for a in arguments if a.startswith("expert=")]
    config.expert = _of_conf(experts[-1]) if experts else own_experts(folder)
    names = {"RAW_DIR": "raw_dir", "NAME": "run.name"}
    rest = [a.partition("=") for a in arguments if not a.startswith("expert=")]
    dotted = [f"{names.get(key, key)}={value}" for key, _, value in rest]
    # The length, too: other dialogues than those of the training may have longer utterances.
    free = ("evaluate.", "raw_dir=", "corpora=", "test_rows=", "run.", "expert.", "data.max_prompt_length=")
    if fixed := [a for a in dotted if not a.startswith(free)]:
        shown = ", ".join(["expert=", *free])
        raise ValueError(f"{fixed[0]}: a run is scored with its own settings; free are {shown}...")
    config.run.name = f"{folder.name}-eval-{time.strftime('%Y%m%d-%H%M%S')}"
    config.run.root = str(folder.resolve().parent)
    config.evaluate.of = str(folder.resolve())
    OmegaConf.set_struct(config, True)
    try:
        config.merge_with_dotlist(dotted)
    except OmegaConfBaseException as error:
        name, said = str(error.full_key), f"{error.full_key}: {str(error).splitlines()[0]}"
        absent = isinstance(error, ConfigKeyError | ConfigAttributeError)
        raise ValueError(unknown_setting(name, flatten(plain(config))) if absent else said) from None
    there = {"base": folder / "base/base.json"} | checkpoint_folders(folder, config.flywheel.iterations)
    wanted = wanted_checkpoints(there, config.evaluate.stages)
    missing = [name for name, path in wanted.items() if not path.exists()]
    if missing:
        raise ValueError(
            f"{folder} has no checkpoint {', '.join(missing)} yet; name those that it has: "
            f'ARGS="evaluate.stages=[cold]"'
        )
    if load_templates(config.prompts.dir).digest != config.prompts.digest:
        raise ValueError(
            f"the prompt templates of prompts.dir={config.prompts.dir} have changed since {folder.name} was "
            "trained with them; restore system.txt and user.txt to score it"
        )
    if config.profile == "cpu":
        os.environ.setdefault("VERL_PLATFORM", "cpu")  # veRL reads it when it is imported
    return config


def _of_conf(expert: str) -> DictConfig:
    with initialize_config_dir(str(CONF), version_base=None):
        return compose(f"expert/{expert}").expert


def main() -> int:
    """Command line of `make eval`."""
    from recipe.run.preflight import check, discard_empty
    from recipe.run.process import StageError

    folder = None
    try:
        config = configured(sys.argv[1:])
        folder = check(config, training=False)
        from recipe import flywheel
        from recipe.pages.report import print_results
        from recipe.run.lock import locked
        from recipe.run.run import Run

        with locked(folder):
            flywheel.score(Run(config, folder))
    except HydraException as error:
        print(f"error: {explain(error)}", file=sys.stderr)
        return 1
    except (ValueError, StageError, OmegaConfBaseException) as error:
        print(f"error: {error}", file=sys.stderr)
        discard_empty(folder)
        return 1
    except Exception as error:
        if not (said := in_words(error, folder)):
            raise
        print(f"error: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped; go on with the same command, NAME={config.run.name} and run.resume=true in its ARGS")
        return 130
    print_results(folder)
    print(f"report: {folder / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
