"""Everything that can be known to be wrong before a model is loaded, with its remedy."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
from pathlib import Path

import psutil
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from data_prep.corpora import find_corpora
from data_prep.experts.client import settings_of
from data_prep.files import write_text
from data_prep.prompt import load_templates
from recipe.run import lock
from recipe.run.files import checkpoint_folders, raw_dir_of, read_config
from recipe.run.flatten import flatten
from recipe.run.lock import LockedError, locked
from recipe.run.ray_nodes import check_address, check_cluster

GIB = 2**30
#: What a process that has imported veRL, torch and vLLM holds before it does any work, and how many
#: of them an RL stage starts beside the training ranks; measured on the tiny model.
_STACK_BYTES = 6.5 * GIB
#: Copies of the weights that an RL stage holds in memory on a CPU, in float32: actor, gradients,
#: two Adam moments, reference, and in each rollout replica the weights as loaded and as repacked.
_TRAINING_COPIES, _ROLLOUT_COPIES = 5, 2
#: Numbers of ours and what they are at least; where null is allowed, it means all. Of SELF-GRPO's group, two
#: are the fewest that can agree.
_LEAST = {
    **dict.fromkeys(("train_rows", "dev_rows", "test_rows", "flywheel.cold_start_rows"), 1),
    **dict.fromkeys(("samples.train", "samples.dev", "samples.test"), 60),
    **dict.fromkeys(("trainer.total_training_steps", "trainer.total_epochs", "evaluate.samples"), 1),
    "evaluate.batch_rows": 1,
    "flywheel.iterations": 0,
    "flywheel.turns": 0,
    "flywheel.mix.original": 1,
    "flywheel.mix.self_play": 0,
    "actor_rollout_ref.rollout.n": 2,
}


#: Words of ours, and what they may be.
_CHOICES = {
    "flywheel.retrain_from": ("base", "policy"),
    "flywheel.lambda_horizon": ("stage", "run"),
    "flywheel.batches": ("shuffled", "stratified"),
    "decontaminate": ("report", "drop"),
    "labels.kind": ("gold", "votes", "expert"),
    "personas.scope": ("dialogue", "past"),
}
#: Numbers of ours between 0 and these.
_SHARES = {
    "flywheel.min_reward": 1.1,
    "flywheel.same_reply": 1,
    "flywheel.held_out": 0.5,
    "self_emo.lambda_max": 100,
    "self_emo.min_named_weight": 0.34,
}


class PreflightError(ValueError):
    """The run cannot work as configured; the message names what is wrong and the remedy."""


def check(config: DictConfig, training: bool = True) -> Path:
    """Check a run before anything heavy starts.

    Args:
        config: the composed configuration; gets ``run.name`` if it has none.
        training: False where checkpoints are only scored, which takes less memory and disk.

    Returns:
        The run's folder, with its ``config.yaml`` written.

    Raises:
        PreflightError: what is wrong, and what to do about it.
        DataError: the same for the corpora.
        ExpertError: the same for the experts.
        ClusterError: the same for RAY_ADDRESS.
    """
    # What needs no heavy import comes first: a slip of the finger should be told at once.
    with open_dict(config):
        config.prompts.digest = load_templates(config.prompts.dir).digest
    _check_numbers(config)
    _check_shares(config)
    find_corpora(raw_dir_of(config), config.corpora)
    settings_of(config.expert)
    folder = _run_folder(config)
    _check_devices(config)
    _check_model(config, folder, training)
    with contextlib.redirect_stdout(io.StringIO()):  # veRL reports success, above whatever fails next
        _check_settings(config)
    if address := os.environ.get("RAY_ADDRESS"):
        check_cluster(address, config.trainer.nnodes, config.trainer.n_gpus_per_node, config.run.patience)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not config.run.resume and _is_begun(folder):  # by another process, a moment ago
            raise PreflightError(f"the run {folder} has just been started; give another NAME=...")
        write_text(folder / "config.yaml", OmegaConf.to_yaml(config))
    return folder


def discard_empty(folder: Path | None) -> None:
    """Delete the folder of a run that failed in its first step, so that the same command works when the
    corpus is mended; None, or a run that has got further, is left alone."""
    nothing = {"config.yaml", "versions.json", "data.work", lock.NAME}
    with contextlib.suppress(LockedError):  # another process's
        if folder and folder.exists():
            with locked(folder):
                if {p.name for p in folder.iterdir()} <= nothing:
                    shutil.rmtree(folder)


def _is_begun(folder: Path) -> bool:
    """Does a folder hold more than what a run that was ended before it had written anything leaves?"""
    return folder.exists() and any(p.name != lock.NAME and p.suffix != ".part" for p in folder.iterdir())


def _check_numbers(config: DictConfig) -> None:
    for name, least in _LEAST.items():
        value = OmegaConf.select(config, name)
        if value is not None and (type(value) is not int or value < least):
            raise PreflightError(f"{name}={value!r} must be a whole number, at least {least}")


def _check_shares(config: DictConfig) -> None:
    for name, most in _SHARES.items():
        value = OmegaConf.select(config, name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= most:
            raise PreflightError(f"{name}={value!r} must be a number from 0 to {most}")


def _check_settings(config: DictConfig) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    from recipe.run.sft_config import sft_config

    for name, allowed in _CHOICES.items():
        if (value := OmegaConf.select(config, name)) not in allowed:
            raise PreflightError(f"{name}={value!r}; choose {' or '.join(allowed)}")
    if config.labels.kind == "expert" and config.expert.kind == "offline":
        raise PreflightError(
            "labels.kind=expert asks experts for soft labels, and expert=offline is none; choose "
            "labels.kind=gold (or votes), or an expert"
        )
    known = {"base", "cold", "rl", "retrained", *checkpoint_folders(Path(), config.flywheel.iterations)}
    if unknown := set(config.evaluate.stages) - known:
        raise PreflightError(f"evaluate.stages: unknown {sorted(unknown)}; choose among {sorted(known)}")
    rows, ranks = config.sft.data.train_batch_size, config.trainer.n_gpus_per_node * config.trainer.nnodes
    if rows % ranks:
        raise PreflightError(
            f"sft.data.train_batch_size={rows} is not divisible by the {ranks} training ranks"
        )
    try:
        sft = sft_config(config.sft)
        validate_config(
            config=config.copy(),
            use_reference_policy=need_reference_policy(config),
            use_critic=need_critic(config),
        )
        role = config.actor_rollout_ref  # the actor's dataclass was made, and checked, just above
        rl = (role.rollout, role.ref.fsdp_config, config.algorithm)
        for node in (*rl, sft.engine, sft.optim, sft.checkpoint):
            omega_conf_to_dataclass(node)
    except OmegaConfBaseException as error:
        raise PreflightError(f"the configuration does not resolve: {str(error).splitlines()[0]}") from None
    except (AssertionError, ValueError, NotImplementedError, HydraException) as error:
        reason = getattr(error, "__cause__", None) or error
        raise PreflightError(f"the configuration does not fit together: {reason}") from None
    _check_micro_batches(config, ranks)


def _check_micro_batches(config: DictConfig, ranks: int) -> None:
    """veRL asserts in the middle of a stage that a rank's share is a whole number of micro-batches."""
    actor, rollout, ref = (config.actor_rollout_ref[name] for name in ("actor", "rollout", "ref"))
    rollouts, sft = actor.ppo_mini_batch_size * rollout.n, config.sft.data
    size, log_prob_size = "ppo_micro_batch_size_per_gpu", "log_prob_micro_batch_size_per_gpu"
    sft_size = sft.get("micro_batch_size_per_gpu", 1)
    for name, dynamic, rows, micro in (
        (f"actor.{size}", actor.use_dynamic_bsz, rollouts, actor[size]),
        (f"rollout.{log_prob_size}", rollout.log_prob_use_dynamic_bsz, rollouts, rollout[log_prob_size]),
        (f"ref.{log_prob_size}", ref.log_prob_use_dynamic_bsz, rollouts, ref[log_prob_size]),
        ("sft.data.micro_batch_size_per_gpu", sft.use_dynamic_bsz, sft.train_batch_size, sft_size),
    ):
        if rows % ranks:
            raise PreflightError(
                f"{rows} rows of a batch cannot be shared out evenly over {ranks} training ranks "
                "(trainer.nnodes x trainer.n_gpus_per_node); choose a number of GPUs that divides them, or "
                "change data.train_batch_size, actor_rollout_ref.actor.ppo_mini_batch_size or "
                "sft.data.train_batch_size"
            )
        if not dynamic and rows // ranks % micro:
            raise PreflightError(
                f"{rows} rows of a batch on {ranks} training ranks are no whole number of micro-batches of "
                f"{name}={micro}; change one of them or let the batches follow the tokens (use_dynamic_bsz)"
            )


def _check_tensor_parallel(config: DictConfig, heads: int, kv_heads: int) -> None:
    """vLLM splits the heads of a layer over the GPUs of a replica; a replica lies within one node."""
    size, gpus = config.actor_rollout_ref.rollout.tensor_model_parallel_size, config.trainer.n_gpus_per_node
    setting = f"actor_rollout_ref.rollout.tensor_model_parallel_size={size}"
    if gpus % size:
        raise PreflightError(f"{setting} does not divide the {gpus} GPUs of a node; choose one that does")
    if not splits(size, heads, kv_heads):
        fitting = [n for n in range(1, gpus + 1) if gpus % n == 0 and splits(n, heads, kv_heads)]
        raise PreflightError(
            f"{setting} cannot split {config.base.name}, which has {heads} attention heads and {kv_heads} "
            f"key-value heads; choose one of {fitting}"
        )


def splits(size: int, heads: int, kv_heads: int) -> bool:
    """Can vLLM split a layer over ``size`` GPUs? Fewer key-value heads than GPUs are copied, evenly."""
    return heads % size == 0 and max(kv_heads, size) % min(kv_heads, size) == 0


def _run_folder(config: DictConfig) -> Path:
    root = Path(config.run.root).expanduser().resolve()
    with open_dict(config):
        config.run.root = str(root)
        config.run.name = config.run.name or f"{config.base.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    name = str(config.run.name)
    if Path(name).name != name or name.startswith("."):
        raise PreflightError(f"run.name={name!r} must be a plain folder name")
    folder = root / name
    if not _is_begun(folder):
        if config.run.resume and not folder.exists():
            raise PreflightError(f"there is no run {folder} to resume; NAME=... says which one")
        return folder
    if not config.run.resume:
        raise PreflightError(
            f'the run {folder} exists; add run.resume=true (ARGS="run.resume=true" with make) to go on '
            "with it, or give another NAME=..."
        )
    if not (folder / "config.yaml").is_file():
        raise PreflightError(f"{folder} is no run: it has no config.yaml; give another NAME=...")
    _check_same(read_config(folder), config)
    return folder


def _check_same(old: DictConfig, new: DictConfig) -> None:
    """A resumed run must keep its settings: what is done was done with them."""
    own = [f"run.{name}" for name in ("name", "root", "resume", "retries", "reuse", "patience", "rejoin")]
    free = (*own, "flywheel.iterations", "evaluate.stages", "cluster")
    before, after = (flatten(OmegaConf.to_container(c, resolve=False)) for c in (old, new))
    changed = [
        key
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not any(key == f or key.startswith(f + ".") for f in free)
    ]
    if changed == ["prompts.digest"]:
        raise PreflightError(
            f"the prompt templates of prompts.dir={new.prompts.dir} are not those the run began with (digest "
            f"{before.get('prompts.digest')} then, {after['prompts.digest']} now); restore system.txt and "
            "user.txt, or give another NAME=..."
        )
    if changed:
        shown = "; ".join(f"{key}: {before.get(key)} -> {after.get(key)}" for key in changed[:5])
        raise PreflightError(
            f"a resumed run keeps its settings, but these changed: {shown}. Give the ARGS that it "
            "was begun with, and run.resume=true beside them, or another NAME=..."
        )


def _check_model(config: DictConfig, folder: Path, training: bool) -> None:
    from recipe.models import chat_template, named, tiny, weights

    path = named.resolve(config.base.path)
    _check_tensor_parallel(config, *weights.attention_heads(path))
    if path != "builtin:tiny":
        chat_template.check_model(path, config.data.apply_chat_template_kwargs, config.base.name)
    parameters = tiny.PARAMETERS if path == "builtin:tiny" else weights.count_parameters(path)
    needed_disk = disk_bytes(parameters, config.flywheel.iterations) if training else 0.2 * GIB
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    if (free := shutil.disk_usage(parent).free) < needed_disk:
        raise PreflightError(
            f"the run needs about {needed_disk / GIB:.1f} GiB on the disk of {parent}, {free / GIB:.1f} are "
            "free; free some (make clean-runs) or set run.root to a folder on another disk"
        )
    if config.trainer.device == "cpu":
        ranks = config.trainer.n_gpus_per_node
        kv_cache = float(config.env.VLLM_CPU_KVCACHE_SPACE)
        needed = memory_bytes(parameters, ranks, kv_cache, training)
        available = psutil.virtual_memory().available
        if available < needed:
            raise PreflightError(
                f"MODEL={config.base.name} has {parameters / 1e6:,.0f} M parameters: "
                f"{'training' if training else 'running'} it here needs about {needed / GIB:.1f} GiB of "
                f"memory, {available / GIB:.1f} are free. Use a smaller "
                "MODEL (tiny, SmolLM2-135M) or a GPU machine with PROFILE=gpu"
            )


def _check_devices(config: DictConfig) -> None:
    check_address(os.environ.get("RAY_ADDRESS", ""))
    if config.trainer.device != "cpu" and os.environ.get("RAY_ADDRESS") is None:
        import torch

        if (asked := config.trainer.n_gpus_per_node) > (there := torch.cuda.device_count()):
            fewer = f"trainer.n_gpus_per_node={there}, " if there else ""
            raise PreflightError(
                f"the run asks for {asked} GPUs, this machine shows {there}; set {fewer}hardware=cpu, or "
                "RAY_ADDRESS to a cluster"
            )


def memory_bytes(parameters: int, ranks: int, kv_cache_gib: float, training: bool = True) -> float:
    """Memory that an RL stage, or an evaluation alone, needs on a CPU, in bytes.

    Args:
        parameters: of the model.
        ranks: training ranks, each with a rollout replica beside it.
        kv_cache_gib: per replica.
        training: False for an evaluation.
    """
    if not training:
        return 2.5 * GIB + kv_cache_gib * GIB + 4 * parameters * _ROLLOUT_COPIES
    weights = 4 * parameters * (_TRAINING_COPIES + ranks * _ROLLOUT_COPIES)
    return _STACK_BYTES + ranks * (1.5 * GIB + kv_cache_gib * GIB) + weights


def disk_bytes(parameters: int, iterations: int) -> float:
    """Disk that a run needs, in bytes: exported models of every stage, two RL checkpoints, answers."""
    return 4 * parameters * (2 + 2 * iterations) + 2 * 16 * parameters + 0.2 * GIB
