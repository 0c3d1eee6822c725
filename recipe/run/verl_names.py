"""Names among the settings that veRL looks up in the middle of a stage: looked up before a run starts.

Wherever veRL has a registry or a function that finds the thing, it is asked itself.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from importlib.machinery import all_suffixes
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from data_prep.setting_types import shown
from recipe.run.flatten import plain

#: What `Tracking` imports for a logger; the others are veRL's own.
_LOGGER_PACKAGES = {
    "wandb": "wandb", "mlflow": "mlflow", "swanlab": "swanlab", "tensorboard": "tensorboard",
    "clearml": "clearml", "trackio": "trackio", "vemlp_wandb": "volcengine_ml_platform",
    "rl_insight": "rl_insight",
}  # fmt: skip
#: What FSDP rounds.
_MIXED = ("param_dtype", "reduce_dtype", "buffer_dtype")
#: What vLLM takes for a model's `dtype`.
_VLLM_DTYPES = ("auto", "half", "float16", "bfloat16", "float", "float32")
#: The estimators that come as plug-ins of this recipe; veRL's registry has them in a stage alone.
_OUR_ESTIMATORS = ("self_grpo",)
#: What veRL gives an optimizer.
_OF_OPTIMIZER = ("optimizer", "optimizer_impl", "lr", "weight_decay", "betas", "override_optimizer_config")
#: What transformers takes for a model's attention, beside kernels of the hub, which have a slash in them.
_ATTENTION = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")
#: What veRL can save; the recipe takes a stage's model from the last of them.
_CONTENTS = ("model", "optimizer", "extra", "hf_model")


def name_faults(config: DictConfig, sft: DictConfig) -> Iterator[str]:
    """What names nothing that veRL could find, a line a fault.

    Args:
        config: the run's.
        sft: veRL's SFT configuration with the run's settings on it.
    """
    role = config.actor_rollout_ref
    plug_ins = role.model.get("external_lib") or []
    plug_ins = [plug_ins] if isinstance(plug_ins, str) else plug_ins
    yield from _modules("actor_rollout_ref.model.external_lib", plug_ins)
    if not plug_ins:  # what they register is known in the workers alone
        yield from _registered(config)
    yield from _loggers(config.trainer.logger)
    yield from _kl(config)
    yield from _contents("actor_rollout_ref.actor.checkpoint", role.actor.checkpoint.save_contents)
    yield from _contents("sft.checkpoint", sft.checkpoint.save_contents)
    yield from _attention("actor_rollout_ref.model", role.model)
    yield from _attention("sft.model", sft.model)
    yield from _optimizer("actor_rollout_ref.actor.optim", role.actor.optim)
    yield from _optimizer("sft.optim", sft.optim)
    yield from _engine("actor_rollout_ref.actor", role.actor.strategy, role.actor.fsdp_config)
    yield from _engine("actor_rollout_ref.ref", role.ref.get("strategy"), role.ref.fsdp_config)
    yield from _engine("sft.engine", sft.engine.strategy, sft.engine)
    yield from _one_of("actor_rollout_ref.rollout.dtype", role.rollout.dtype, _VLLM_DTYPES)
    yield from _one_of("actor_rollout_ref.rollout.name", role.rollout.name, ("vllm",))
    yield from _reward(config)
    yield from _modules("run.preload", config.run.preload)


def _registered(config: DictConfig) -> Iterator[str]:
    """What veRL's registries do not hold."""
    from verl.trainer.ppo.core_algos import ADV_ESTIMATOR_REGISTRY, get_policy_loss_fn

    name = config.algorithm.adv_estimator
    if name not in (known := sorted({*ADV_ESTIMATOR_REGISTRY, *_OUR_ESTIMATORS})):
        yield f"algorithm.adv_estimator={shown(name)} is none of its values; choose {' or '.join(known)}"
    if name == "gae" or config.critic.enable:
        name = "critic.enable=true" if config.critic.enable else "algorithm.adv_estimator='gae'"
        yield f"{name} asks for a critic, and the recipe trains none; choose self_grpo or grpo without one"
    mode = config.actor_rollout_ref.actor.policy_loss.loss_mode
    yield from _found("actor_rollout_ref.actor.policy_loss.loss_mode", mode, get_policy_loss_fn)


def _found(name: str, value: Any, find: Callable[[Any], Any]) -> Iterator[str]:
    """A fault, in veRL's own words, where it does not find ``value``, or cannot use it."""
    try:
        find(value)
    except Exception as error:  # veRL raises one kind or another, each for a name that is not there
        words = str(error).splitlines()
        yield f"{name}={shown(value)} cannot be used" + (f": {words[0]}" if words else "")


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> Iterator[str]:
    if value not in known:
        yield f"{name}={shown(value)} is none of its values; choose {' or '.join(known)}"


def _loggers(names: Any) -> Iterator[str]:
    from verl.utils.tracking import Tracking

    for name in names:
        if name not in Tracking.supported_backend:
            known = " or ".join(Tracking.supported_backend)
            yield f"trainer.logger: veRL has no logger {shown(name)}; choose {known}"
        elif (package := _LOGGER_PACKAGES.get(name)) and not importlib.util.find_spec(package):
            yield (
                f"trainer.logger: {name} needs the package {package}, which is not installed; install it or "
                "choose console and file"
            )


def _kl(config: DictConfig) -> Iterator[str]:
    import torch
    from verl.trainer.ppo.core_algos import get_kl_controller, kl_penalty

    actor, algorithm, zeros = config.actor_rollout_ref.actor, config.algorithm, torch.zeros(1, 1)
    used = {}
    if actor.use_kl_loss:
        used["actor_rollout_ref.actor.kl_loss_type"] = actor.kl_loss_type
    if algorithm.use_kl_in_reward:
        used["algorithm.kl_penalty"] = algorithm.kl_penalty
        control = algorithm.kl_ctrl
        yield from _found("algorithm.kl_ctrl.type", control.type, lambda _: get_kl_controller(control))
    for name, value in used.items():
        for _ in _found(name, value, lambda kind: kl_penalty(zeros, zeros, kind)):
            yield f"{name}={shown(value)} is none of its values; choose kl or abs or mse or low_var_kl"


def _contents(name: str, contents: Any) -> Iterator[str]:
    given = [contents] if isinstance(contents, str) else list(contents or ())
    if set(given) - set(_CONTENTS) or "hf_model" not in given:
        known = ", ".join(_CONTENTS)
        yield f"{name}.save_contents={shown(given)} must be among {known}, and hf_model one of them"


def _attention(name: str, model: DictConfig) -> Iterator[str]:
    kind = (model.get("override_config") or {}).get("attn_implementation")
    if kind is not None and "/" not in str(kind):
        yield from _one_of(f"{name}.override_config.attn_implementation", kind, _ATTENTION)


def _optimizer(name: str, optim: DictConfig) -> Iterator[str]:
    """Made as veRL makes it, for a parameter of one number."""
    import torch
    from verl.workers.config.optimizer import FSDPOptimizerConfig, build_optimizer

    def find(_: Any) -> None:
        kind = getattr(importlib.import_module(optim.optimizer_impl), optim.optimizer)
        if not (isinstance(kind, type) and issubclass(kind, torch.optim.Optimizer)):
            raise TypeError(f"{optim.optimizer_impl}.{optim.optimizer} is no optimizer; AdamW is one")
        given = plain(optim)
        settings = FSDPOptimizerConfig(**{key: given[key] for key in _OF_OPTIMIZER if key in given})
        build_optimizer([torch.nn.Parameter(torch.zeros(1))], settings)

    yield from _found(f"{name}.optimizer", optim.optimizer, find)


def _engine(name: str, strategy: Any, engine: DictConfig) -> Iterator[str]:
    from verl.utils.torch_dtypes import PrecisionType

    if strategy is not None:
        yield from _one_of(f"{name}.strategy", strategy, ("fsdp", "fsdp2"))
    prefix = name if name == "sft.engine" else f"{name}.fsdp_config"
    dtypes = {key: engine.get(key) for key in ("model_dtype", "dtype")}
    mixed = engine.get("mixed_precision") or {}
    if isinstance(mixed, str) or set(mixed) - set(_MIXED):
        yield f"{prefix}.mixed_precision={shown(mixed)} must be settings by name: {', '.join(_MIXED)}"
        mixed = {}
    dtypes |= {f"mixed_precision.{key}": value for key, value in mixed.items()}
    for key, value in dtypes.items():
        if value is not None:
            yield from _found(f"{prefix}.{key}", value, PrecisionType.to_dtype)


def _reward(config: DictConfig) -> Iterator[str]:
    from verl.trainer.ppo.reward import get_custom_reward_fn, resolve_reward_manager_cls

    name = "reward.custom_reward_function.path"
    path = OmegaConf.select(config, name)
    if not path:
        yield f"{name}={shown(path)}: without a function of its own veRL knows no reward of these corpora"
    else:
        yield from _found(name, path, lambda _: get_custom_reward_fn(config))
    manager = config.reward.reward_manager
    yield from _found(
        "reward.reward_manager.name", manager.name, lambda _: resolve_reward_manager_cls(config)
    )


def _modules(name: str, modules: Any) -> Iterator[str]:
    for module in modules:
        if not _is_there(module):
            yield f"{name}: there is no module {shown(module)}"


def _is_there(module: str) -> bool:
    """Is it installed? Only looked for: the packages around it, which take seconds, are not imported."""
    top, *rest = module.split(".")
    if not all(map(str.isidentifier, rest)):
        return False
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # no name, or one of a module without a file
        return False
    if spec is None or not rest:
        return spec is not None
    paths = [Path(folder, *rest) for folder in spec.submodule_search_locations or []]
    files = (path.with_name(path.name + end) for path in paths for end in all_suffixes())
    return any(path.is_dir() for path in paths) or any(path.is_file() for path in files)
