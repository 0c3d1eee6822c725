"""Everything that can be known to be wrong before a model is loaded, with its remedy."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import psutil
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from data_prep.corpora import find_corpora
from data_prep.files import write_text
from data_prep.masking import masked
from data_prep.prompt import load_paraphrases, load_templates
from data_prep.setting_types import shown
from recipe.models.endpoint import endpoint_of
from recipe.models.self_expert import experts_of
from recipe.run import corpora_fetch, gpu_checks, lock
from recipe.run.files import checkpoint_folders, raw_dir_of
from recipe.run.flatten import flatten, plain
from recipe.run.lock import LockedError, locked
from recipe.run.plan_memory import architecture
from recipe.run.ray_nodes import CPUS_PER_GPU, check_address, check_cluster
from recipe.run.resumed import check_same
from recipe.run.schema import setting_faults
from recipe.run.verl_names import name_faults
from recipe.run.verl_types import verl_faults

GIB = 2**30
#: What a process that has imported veRL, torch and vLLM holds before it does any work, and how many
#: of them an RL stage starts beside the training ranks; measured on the tiny model.
_STACK_BYTES = 6.5 * GIB
#: Copies of the weights that an RL stage holds in memory on a CPU, in float32: actor, gradients,
#: two Adam moments, reference, and in each rollout replica the weights as loaded and as repacked.
_TRAINING_COPIES, _ROLLOUT_COPIES = 5, 2
#: Settings that are lists: a word where one is meant is a list of one.
_LISTS = ("corpora", "evaluate.stages", "run.reuse", "run.preload", "trainer.logger")


class PreflightError(ValueError):
    """The run cannot work as configured; the message names what is wrong and the remedy."""


def check(config: DictConfig, training: bool = True, model: bool = True) -> Path:
    """Check a run before anything heavy starts.

    Args:
        config: the composed configuration; gets ``run.name`` if it has none.
        training: False where checkpoints are only scored, which takes less memory and disk.
        model: False where none is loaded.

    Returns:
        The run's folder, with its ``config.yaml`` written.

    Raises:
        PreflightError: what is wrong, and what to do about it.
        DataError, DownloadError: the same for the corpora.
        ExpertError: the same for the experts.
        GpuError: the same for GPUs.
        ClusterError: the same for RAY_ADDRESS.
    """
    # What needs no heavy import comes first: a slip of the finger should be told at once.
    check_types(config)
    with open_dict(config):
        config.prompts.digest = load_templates(config.prompts.dir).digest
    load_paraphrases(config.prompts.dir, config.evaluate.get("paraphrases", 0))
    fetching = corpora_fetch.choose_folder(config)
    if not fetching:
        find_corpora(raw_dir_of(config), config.corpora)
    experts_of(config)
    model = model and not endpoint_of(config)
    _check_devices(config)
    machine = gpu_checks.settle(config)
    folder = _run_folder(config)
    if not config.run.resume:  # else what was worth taking has been taken
        for run in config.run.reuse:
            if not (Path(run) / "config.yaml").is_file():
                raise PreflightError(f"run.reuse: {run} is no folder of a run; name it as runs/<name>")
    if model:
        _check_model(config, folder, training)
    gpu_checks.check_memory(config, machine, training)
    with contextlib.redirect_stdout(io.StringIO()):  # veRL reports success, above whatever fails next
        _check_settings(config)
    _check_logical_cpus(config)
    _check_logical_gpus(config)
    if address := os.environ.get("RAY_ADDRESS"):
        check_cluster(address, config.trainer.nnodes, config.trainer.n_gpus_per_node, config.run.patience)
    if fetching:  # when all else is right
        corpora_fetch.fetch_corpora(config)
        find_corpora(config.raw_dir, config.corpora)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        if not config.run.resume and _is_begun(folder):  # by another process, a moment ago
            raise PreflightError(f"the run {folder} has just been started; give another NAME=...")
        settings = masked(written := plain(config, resolve=False))
        shown = config if settings == written else OmegaConf.create(settings)  # to make one takes a while
        write_text(folder / "config.yaml", OmegaConf.to_yaml(shown))
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


def check_types(config: DictConfig) -> None:
    """Every setting of ours, and veRL's that we read, by type and range; a line a fault.

    Raises:
        PreflightError: with all faults.
    """
    with open_dict(config):
        for name in _LISTS:
            if isinstance(word := OmegaConf.select(config, name), str):
                OmegaConf.update(config, name, [word])
    try:
        settings = plain(config)
    except OmegaConfBaseException as error:
        raise PreflightError(f"the configuration does not resolve: {str(error).splitlines()[0]}") from None
    _raise_any(setting_faults(settings, list(flatten(settings))))


def _raise_any(faults: Sequence[str]) -> None:
    if faults:
        raise PreflightError("\n       ".join(faults))


def _check_settings(config: DictConfig) -> None:
    from verl.trainer.ppo.utils import need_critic, need_reference_policy
    from verl.utils.config import omega_conf_to_dataclass, validate_config

    from recipe.run.sft_config import sft_config

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
        sft, settings = sft_config(config.sft), plain(config)
        _raise_any([*verl_faults(settings), *verl_faults(plain(sft), "sft.")])
        _raise_any([*name_faults(config, sft)])
        validate_config(
            config=config,
            use_reference_policy=need_reference_policy(config),
            use_critic=need_critic(config),
        )
        role = config.actor_rollout_ref  # the actor's dataclass was made, and checked, just above
        rl = (role.rollout, role.ref.fsdp_config, config.algorithm)
        for node in (*rl, sft.engine, sft.optim, sft.checkpoint):
            omega_conf_to_dataclass(node)
    except OmegaConfBaseException as error:
        raise PreflightError(f"the configuration does not resolve: {str(error).splitlines()[0]}") from None
    except PreflightError:
        raise
    except (AssertionError, ValueError, NotImplementedError, HydraException) as error:
        raise PreflightError(f"the configuration does not fit together: {_in_words(error)}") from None
    _check_micro_batches(config, ranks)


def _in_words(error: Exception) -> str:
    """What veRL says, or, where it asserts without a word, the line that does."""
    cause = error.__cause__ or error
    return str(cause) or f"veRL asks for: {traceback.extract_tb(cause.__traceback__)[-1].line}"


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
    plain_name = Path(name).name == name and not name.startswith(".") and name.isprintable()
    if not plain_name or len(name.encode()) > 200:
        raise PreflightError(f"run.name={name[:60]!r} must be a plain folder name of at most 200 bytes")
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
    try:
        check_same(folder, config)
    except ValueError as error:
        raise PreflightError(str(error)) from None
    return folder


def _check_model(config: DictConfig, folder: Path, training: bool) -> None:
    from recipe.models import chat_template, named, tiny, weights

    if config.base.architecture:  # what is far too large is told before the hub is asked
        _check_room(config, folder, training, architecture(config).parameters)
    path = named.resolve(config.base.path)
    _check_tensor_parallel(config, *weights.attention_heads(path))
    if path != "builtin:tiny":
        chat_template.check_model(path, config.data.apply_chat_template_kwargs, config.base.name)
    longest = config.data.max_prompt_length + config.data.max_response_length
    if path != "builtin:tiny" and (most := weights.context_length(path)) < longest:
        raise PreflightError(
            f"data.max_prompt_length and max_response_length are {longest:,} tokens together, and "
            f"{config.base.name} reads and writes at most {most:,}; lower them, or choose another MODEL"
        )
    parameters = tiny.PARAMETERS if path == "builtin:tiny" else weights.count_parameters(path)
    _check_room(config, folder, training, parameters)


def _check_room(config: DictConfig, folder: Path, training: bool, parameters: int) -> None:
    """Without a GPU the memory, and the disk, that a model of so many parameters takes."""
    if config.trainer.device == "cpu":
        ranks = config.trainer.n_gpus_per_node
        kv_cache = float(config.env.VLLM_CPU_KVCACHE_SPACE)
        needed = memory_bytes(parameters, ranks, kv_cache, training, config.evaluate.get("replicas", 1))
        available = psutil.virtual_memory().available
        if available < needed:
            raise PreflightError(
                f"MODEL={config.base.name} has {parameters / 1e6:,.0f} M parameters: "
                f"{'training' if training else 'running'} it here needs about {needed / GIB:.1f} GiB of "
                f"memory, {available / GIB:.1f} are free. Use a smaller "
                "MODEL (tiny, SmolLM2-135M) or a GPU machine with PROFILE=gpu"
            )
    adapters = bool(config.actor_rollout_ref.model.lora_rank)
    needed_disk = disk_bytes(parameters, config.flywheel.iterations, adapters) if training else 0.2 * GIB
    needed_disk -= _size(folder)  # what a resumed run has written already
    parent = next(p for p in (folder, *folder.parents) if p.exists())
    if (free := shutil.disk_usage(parent).free) < needed_disk:
        raise PreflightError(
            f"the run needs about {needed_disk / GIB:.1f} GiB on the disk of {parent}, {free / GIB:.1f} are "
            "free; free some (make clean-runs) or set run.root to a folder on another disk"
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


def _check_logical_cpus(config: DictConfig) -> None:
    ranks = config.trainer.n_gpus_per_node
    cpus = config.cluster.get("num_cpus") or os.cpu_count() or 1  # as Ray counts them
    if cpus < CPUS_PER_GPU * ranks and os.environ.get("RAY_ADDRESS") is None:
        raise PreflightError(
            f"cluster.num_cpus={cpus} is less than the {CPUS_PER_GPU} CPUs that veRL's SFT reserves for each "
            f"of {ranks} training ranks, and it would wait for ever; they are logical: "
            f"cluster.num_cpus={16 * ranks}"
        )


def _check_logical_gpus(config: DictConfig) -> None:
    ranks, gpus = config.trainer.n_gpus_per_node, config.cluster.get("num_gpus")
    if gpus is None and config.trainer.device == "cpu":
        gpus = 0  # Ray would look for some, and find none
    if gpus is not None and gpus < ranks and os.environ.get("RAY_ADDRESS") is None:
        raise PreflightError(
            f"cluster.num_gpus={shown(config.cluster.get('num_gpus'))} is less than the {ranks} ranks "
            "of training (trainer.n_gpus_per_node), which would wait for ever; on a CPU they are logical: "
            f"cluster.num_gpus={ranks}"
        )


def memory_bytes(
    parameters: int, ranks: int, kv_cache_gib: float, training: bool = True, replicas: int = 1
) -> float:
    """Memory that an RL stage, or an evaluation alone, needs on a CPU, in bytes.

    Args:
        parameters: of the model.
        ranks: training ranks, each with a rollout replica beside it.
        kv_cache_gib: per replica.
        training: False for an evaluation.
        replicas: of vLLM that answer at once in an evaluation.
    """
    engine = kv_cache_gib * GIB + 4 * parameters * _ROLLOUT_COPIES
    answering = 2.5 * GIB + replicas * engine
    if not training:
        return answering
    weights = 4 * parameters * (_TRAINING_COPIES + ranks * _ROLLOUT_COPIES)
    return max(answering, _STACK_BYTES + ranks * (1.5 * GIB + kv_cache_gib * GIB) + weights)


def disk_bytes(parameters: int, iterations: int, adapters: bool = False) -> float:
    """Disk that a run needs at its fullest, in bytes, everything being float32.

    The last RL stage holds most: the exported models of all stages before it, and two of its own checkpoints
    (weights, two Adam moments and an export, 16 bytes a parameter), because veRL deletes the old one when the
    new one is whole. Adapters (LoRA) have no moments worth counting: 8 bytes, and 4 for the model in which
    they are merged. Shards go when a stage's model is taken (`recipe.run.training.train_stage`).
    """
    exported, stage = 4 * parameters, (2 * 8 + 4 if adapters else 2 * 16) * parameters
    before = exported * max(2 * iterations - 1, 1)
    return before + (stage if iterations else 0) + 0.2 * GIB


def _size(folder: Path) -> int:
    """Bytes of the files below a folder; 0 where there is none."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
