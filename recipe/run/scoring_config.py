"""The settings to ask a run's checkpoints with: the run's where they decide an answer, today's elsewhere.

The folder may be somebody else's, and veRL makes an object of whatever class a node names, Ray takes whatever
``cluster`` holds, and experts are sent keys: nothing of that is taken over. It may be older, too: what has
come up since has today's value, and what is gone is left out.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from data_prep.masking import masked, without_outside
from recipe.run.files import read_config, read_own_config
from recipe.run.flatten import plain
from recipe.run.shortcuts import CONF

#: Nodes and settings of a run that decide what its checkpoints are asked, and on what.
_TAKEN = (
    "base", "corpora", "raw_dir", "samples", "personas", "decontaminate", "prompts", "flywheel", "evaluate",
    "train_rows", "dev_rows", "test_rows", "profile", "env", "cluster.num_cpus", "cluster.num_gpus",
    *(f"run.{name}" for name in ("name", "seed", "retries", "patience", "rejoin")),
    *(f"data.{name}" for name in ("max_prompt_length", "max_response_length", "apply_chat_template_kwargs")),
    *(f"trainer.{name}" for name in ("device", "n_gpus_per_node", "nnodes")),
    *(f"actor_rollout_ref.rollout.{name}" for name in ("dtype", "enforce_eager", "gpu_memory_utilization")),
    *(f"actor_rollout_ref.rollout.{n}" for n in ("tensor_model_parallel_size", "max_num_batched_tokens")),
)  # fmt: skip
#: Of the nodes above those that hold names of others' choice.
_FREE = ("data.apply_chat_template_kwargs",)
_ABSENT = object()


def scoring_config(folder: Path) -> DictConfig:
    """All settings for asking the checkpoints of the run in ``folder``, without its experts (`own_experts`).

    Raises:
        ValueError: its ``config.yaml`` is broken, or a setting refers to one that is not there.
    """
    own = read_config(folder)
    hardware = "8gpu" if own.get("profile") == "gpu" else "cpu"
    with initialize_config_dir(str(CONF), version_base=None):
        today = compose("self_emo", ["model=any", "base.path=any", "base.name=any", f"hardware={hardware}"])
    OmegaConf.set_struct(today, False)
    for name in _TAKEN:
        try:
            value = OmegaConf.select(own, name, default=_ABSENT)
            value = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        except OmegaConfBaseException as error:
            raise ValueError(f"{folder / 'config.yaml'}: {str(error).splitlines()[0]}") from None
        if value is _ABSENT:
            continue
        value = without_outside(value)  # once more: two settings may have made such a reference
        if name not in _FREE:
            value = _over(OmegaConf.select(today, name), value)
        OmegaConf.update(today, name, value, merge=False)
    today.evaluate.endpoint = None
    today.labels.kind = "gold"  # nothing is learnt from, so no expert is asked for soft ones
    return today


def own_experts(folder: Path) -> DictConfig:
    """Of the reader's own ``conf/expert`` the file that asks whom the run asked, by address, model and key.

    Raises:
        ValueError: there is none: a key must not go where a run's folder says.
    """
    asked = masked(plain(read_own_config(folder), resolve=False)).get("expert") or {"kind": "offline"}
    for path in sorted((CONF / "expert").glob("*.yaml")):
        with initialize_config_dir(str(CONF), version_base=None):
            own = compose(f"expert/{path.stem}").expert
        if _whom(masked(plain(own, resolve=False))) == _whom(asked):
            return own
    raise ValueError(
        f"the experts of {folder.name} are none of conf/expert here, and a run's folder does not decide who "
        "is sent keys; say who writes personas: expert=offline, endpoint (EXPERT_BASE_URL) or mixed in ARGS"
    )


def _whom(expert: Any) -> Any:
    if not isinstance(expert, dict):
        return None
    endpoints = expert.get("endpoints") or []
    names = ("base_url", "model", "key")
    return expert.get("kind"), [
        [one.get(n) for n in names] if isinstance(one, dict) else None for one in endpoints
    ]


def _over(today: Any, value: Any) -> Any:
    """A run's settings on today's, without those that there are no more."""
    if not isinstance(value, dict) or not OmegaConf.is_config(today) or not today:
        return value
    return {**plain(today, resolve=False), **{k: _over(today[k], v) for k, v in value.items() if k in today}}
