"""Every bad input has its clear error before a model is loaded or made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException, HydraException
from omegaconf import OmegaConf

from data_prep.corpora.dialogue import DataError
from data_prep.experts.client import ExpertError
from data_prep.prompt import load_templates
from recipe.models import tiny, weights
from recipe.models.weights import ModelError
from recipe.run import gpu_checks, preflight
from recipe.run.lock import LockedError, locked
from recipe.run.preflight import GIB, PreflightError, check, disk_bytes, memory_bytes
from recipe.run.ray_nodes import ClusterError
from recipe.run.shortcuts import CONF
from recipe.steps.base import readings
from tests.unit.samples import SAMPLES

SMALL = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "vocab_size": 256,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "tie_word_embeddings": True,
}
#: Qwen3-8B's shape.
LARGE = SMALL | {
    "vocab_size": 151_936,
    "hidden_size": 4096,
    "intermediate_size": 12_288,
    "num_hidden_layers": 36,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "tie_word_embeddings": False,
}


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """A machine with room, on which no model may be loaded, made or asked for on the hub."""
    import huggingface_hub.constants
    import transformers

    def refuse(*_, **__):
        raise AssertionError("a model was loaded before the check was through")

    for owner in (transformers.PreTrainedModel, transformers.AutoModelForCausalLM):
        monkeypatch.setattr(owner, "from_pretrained", refuse)
    monkeypatch.setattr(tiny, "make_tiny", refuse)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    state = SimpleNamespace(memory=64 * GIB, disk=500 * GIB)
    monkeypatch.setattr(preflight.psutil, "virtual_memory", lambda: SimpleNamespace(available=state.memory))
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: SimpleNamespace(free=state.disk))
    return state


@pytest.fixture(scope="session")
def composed(root):
    """Composes the configuration with overrides; each composition is made once and copied."""
    known = {}

    def make(*overrides: str):
        if overrides not in known:
            with initialize_config_dir(str(root / "conf"), version_base=None):
                known[overrides] = compose("self_emo", overrides=["hardware=cpu", *overrides])
        return known[overrides].copy()

    return make


@pytest.fixture
def configured(composed, tmp_path):
    """The configuration with overrides, its runs below ``tmp_path``; ``model`` is what MODEL would be."""

    def make(*overrides: str, model: object = None):
        config = composed(*overrides, *(["model=any", "base.name=mine", "base.path=x"] if model else []))
        config.run.root = str(tmp_path / "runs")
        if model:
            config.base.path = str(model)
        return config

    return make


def refused(config, *words: str, error: type[Exception] = PreflightError) -> str:
    """The message with which ``config`` is refused; nothing may be left of the run."""
    root = config.run.root
    before = sorted(os.listdir(root)) if os.path.isdir(root) else None
    with pytest.raises(error) as caught:
        check(config)
    for word in words:
        assert word in str(caught.value)
    assert (sorted(os.listdir(root)) if os.path.isdir(root) else None) == before
    return str(caught.value)


@pytest.fixture
def model_folder(tokenizer_folder):
    """Makes a folder with a model's configuration and a tokenizer, without weights."""

    def make(path, settings=SMALL):
        shutil.copytree(tokenizer_folder, path)
        (path / "config.json").write_text(json.dumps(settings))
        return path

    return make


# ---- what works ----


def test_the_defaults_pass_and_leave_the_configuration(configured, tmp_path):
    config = configured("run.name=first")
    folder = check(config)
    assert folder == tmp_path / "runs/first"
    assert [p.name for p in folder.iterdir()] == ["config.yaml"]
    saved = OmegaConf.load(folder / "config.yaml")
    assert saved.run.name == "first" and saved.base.path == "builtin:tiny"


def test_a_run_without_a_name_gets_one(configured):
    config = configured()
    folder = check(config)
    assert folder.name == config.run.name and folder.name.startswith("tiny-20")


def test_a_model_folder_passes(configured, tmp_path, model_folder):
    assert check(configured(model=model_folder(tmp_path / "my model"))).is_dir()


def test_the_ablations_differ_from_the_paper_s_setting_in_what_they_are_named_for(configured):
    def flat(experiment: str) -> dict:
        config = configured(f"experiment={experiment}", "hardware=8gpu")
        return preflight.flatten(OmegaConf.to_container(config, resolve=False))

    paper = flat("paper")
    differences = {
        name: {
            key: value for key, value in flat(name).items() if paper.get(key) != value and "run." not in key
        }
        for name in ("ablation_cold", "ablation_grpo", "ablation_original_only")
    }
    assert differences == {
        "ablation_cold": {"flywheel.cold_start_rows": 5000},
        "ablation_grpo": {"algorithm.adv_estimator": "grpo"},
        "ablation_original_only": {
            "algorithm.adv_estimator": "grpo",
            "flywheel.mix.original": 100_000,
            "flywheel.mix.self_play": 0,
            "flywheel.turns": 0,
        },
    }


def test_two_nodes_are_one_node_twice(configured):
    one, two = (configured("experiment=paper", f"hardware={h}").trainer for h in ("8gpu", "multinode"))
    assert (one.nnodes, two.nnodes) == (1, 2) and one.n_gpus_per_node == two.n_gpus_per_node == 8


# ---- MODEL ----


@pytest.mark.parametrize(
    "path", ["nonsense", "a/b/c", "/no/such/folder", "./nothing", "~/nothing/here", "builtin:big"]
)
def test_a_model_that_is_nothing(configured, path):
    refused(configured(model=path), "neither", path, "tiny", error=ModelError)


def test_a_hub_id_that_cannot_be_read(configured):
    message = refused(configured(model="self-emo-no-such-owner/nothing"), "hub", error=ModelError)
    assert "self-emo-no-such-owner/nothing" in message and "folder" in message


def test_a_folder_without_config(configured, tmp_path):
    (tmp_path / "empty").mkdir()
    refused(
        configured(model=tmp_path / "empty"),
        "without config.json",
        str(tmp_path / "empty"),
        error=ModelError,
    )


def test_a_model_whose_tokenizer_or_template_cannot_be_used(configured, tmp_path, model_folder):
    bare = tmp_path / "bare"
    bare.mkdir()
    (bare / "config.json").write_text(json.dumps(SMALL))
    refused(configured(model=bare), "MODEL=mine has no chat template", "tokenizer", error=ModelError)
    (bare / "tokenizer.json").write_text("{broken")
    refused(configured(model=bare), "MODEL=mine has no tokenizer that can be read", error=ModelError)
    folder = model_folder(tmp_path / "m")
    (folder / "chat_template.jinja").write_text("{{ raise_exception('only users') }}")
    refused(configured(model=folder), "no system and user message (only users)", error=ModelError)


@pytest.mark.parametrize("content", ["{not json", "{}", '{"model_type": "no-such-model"}', "[]"])
def test_a_folder_with_a_broken_config(configured, tmp_path, content, model_folder):
    # `make train` shows a ValueError as one line, anything else as a traceback.
    folder = model_folder(tmp_path / "broken")
    (folder / "config.json").write_text(content)
    refused(configured(model=folder), error=ValueError)


def test_a_model_too_large_for_the_memory(configured, tmp_path, machine, model_folder):
    folder = model_folder(tmp_path / "large", LARGE)
    machine.disk = 10_000 * GIB
    message = refused(configured(model=folder), "8,191 M parameters", "memory", "64.0 are free", "MODEL=mine")
    assert "tiny" in message and "gpu" in message.lower()  # the remedies


def test_the_same_model_fits_where_memory_is(configured, tmp_path, machine, model_folder):
    folder = model_folder(tmp_path / "small")
    machine.memory = memory_bytes(weights.count_parameters(str(folder)), 1, 1.0)
    check(configured("run.name=first", model=folder))
    machine.memory -= 1
    refused(configured("run.name=second", model=folder), "memory")


def test_parameters_are_counted_from_the_configuration_alone(tmp_path, model_folder):
    folder = model_folder(tmp_path / "small")
    embedding, norm = 256 * 32, 32
    attention = 3 * 32 * 32 + 32 * 32 + 2 * 16  # q, k, v, o and the two head norms
    layer = attention + 3 * 32 * 64 + 2 * norm
    assert weights.count_parameters(str(folder)) == embedding + 2 * layer + norm


def test_memory_and_disk_grow_with_what_is_asked():
    assert memory_bytes(0, 1, 1.0) < memory_bytes(10**9, 1, 1.0) < memory_bytes(10**9, 2, 1.0)
    assert memory_bytes(0, 1, 1.0) + GIB == memory_bytes(0, 1, 2.0)
    assert memory_bytes(8 * 10**9, 1, 1.0) > 4 * 5 * 8 * 10**9  # weights, gradients, Adam's two, reference


def test_disk_at_its_fullest():
    """While the last RL stage saves: veRL keeps its old checkpoint (16 bytes a parameter) until the new one
    is whole, beside the exported models (4) of the cold start, RL 1 and its retraining."""
    n = 8_190_427_136
    assert disk_bytes(n, 1) == pytest.approx((4 + 2 * 16) * n + 0.2 * GIB)
    assert disk_bytes(n, 2) == pytest.approx((3 * 4 + 2 * 16) * n + 0.2 * GIB)
    assert 0 < disk_bytes(n, 0) < disk_bytes(n, 1)


def test_a_resumed_run_needs_no_disk_for_what_it_has_written(configured, machine, tmp_path):
    machine.disk = disk_bytes(tiny.PARAMETERS, 2) - 2**20
    config = configured("run.name=mine")
    refused(config, "free some")
    folder = tmp_path / "runs/mine"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(bytes(2 * 2**20))
    OmegaConf.save(config, folder / "config.yaml")
    config.run.resume = True
    assert check(config) == folder


def test_the_tiny_model_is_as_large_as_is_said(tmp_path, monkeypatch):
    monkeypatch.undo()  # this test may make a model
    tiny.make_tiny(readings(load_templates("compact"), 300, seed=1), tmp_path / "tiny", seed=1)
    assert weights.count_parameters(str(tmp_path / "tiny")) == pytest.approx(tiny.PARAMETERS, rel=0.1)


# ---- disk, GPUs ----


def test_too_little_disk(configured, machine):
    machine.disk = 0.1 * GIB
    refused(configured(), "disk", "0.1 are free", "run.root")


def test_corpora_are_fetched_when_all_else_is_right(configured, monkeypatch, tmp_path):
    fetched = []

    def fetch_corpora(config):
        fetched.append(config.raw_dir)
        shutil.copytree(SAMPLES, config.raw_dir)

    monkeypatch.setattr(preflight.corpora_fetch, "fetch_corpora", fetch_corpora)
    config = configured("flywheel.turns=0")
    config.download = str(tmp_path / "raw")
    config.flywheel.retrain_from = "nothing"
    refused(config, "flywheel.retrain_from")
    assert fetched == []
    config = configured("flywheel.turns=0")
    config.download = str(tmp_path / "raw")
    folder = check(config)
    assert fetched == [str(tmp_path / "raw")] == [OmegaConf.load(folder / "config.yaml").raw_dir]


def test_the_tiny_model_is_nobody_s_expert(configured):
    refused(configured("expert=self"), "the tiny model", "expert=offline", error=ExpertError)


def test_a_head_without_gpus_serves_no_expert(configured, monkeypatch, tmp_path, model_folder):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    config = configured("expert=self", "hardware=8gpu", model=model_folder(tmp_path / "m"))
    refused(config, "shows 0 GPUs of the 1", "expert=mixed", error=ExpertError)


def test_rows_that_are_longer_than_the_model_s_context(configured, tmp_path, model_folder):
    folder = model_folder(tmp_path / "m")
    config = json.loads((folder / "config.json").read_text()) | {"max_position_embeddings": 300}
    (folder / "config.json").write_text(json.dumps(config))
    refused(configured("experiment=smoke_llm", model=folder), "384 tokens together", "at most 300")


def test_cpus_that_verl_would_wait_for(configured):
    refused(configured("trainer.n_gpus_per_node=4"), "cluster.num_cpus=32", "10 CPUs", "cluster.num_cpus=64")


def test_more_gpus_than_there_are(configured, monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    refused(configured("hardware=8gpu"), "8 GPUs", "shows 1", "hardware=cpu")
    monkeypatch.setattr(gpu_checks, "probe", gpu_checks.Machine)
    asked = []
    monkeypatch.setattr(preflight, "check_cluster", lambda *what: asked.append(what))
    monkeypatch.setenv("RAY_ADDRESS", "auto")  # the cluster has what this machine lacks
    check(configured("hardware=8gpu"))
    assert asked == [("auto", 1, 8, 45)]


def test_a_cluster_with_too_little_is_refused_before_anything_is_written(configured, monkeypatch):
    def check_cluster(*_):
        raise ClusterError("the cluster has 1 node(s) with 0")

    monkeypatch.setattr(preflight, "check_cluster", check_cluster)
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    config = configured()
    refused(config, "the cluster has 1 node(s) with 0", error=ClusterError)
    assert not list(Path(config.run.root).glob("*"))


def test_the_address_of_a_dashboard_is_for_submitting(configured, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "http://head:8265")
    said = ("RAY_ADDRESS=http://head:8265 is a dashboard", "make submit", "head:6379")
    refused(configured(), *said, error=ClusterError)


# ---- data and prompts ----


@pytest.mark.parametrize("corpus", ["meld", "emorynlp", "iemocap", "dailydialog"])
def test_one_corpus_or_all(composed, corpus):
    assert composed().corpora is None
    assert list(composed(f"corpus={corpus}").corpora) == [corpus]
    assert list(composed("corpora=[meld,iemocap]").corpora) == ["meld", "iemocap"]


def test_raw_dir_without_a_corpus(configured, tmp_path):
    (tmp_path / "raw").mkdir()
    refused(configured(f"raw_dir={tmp_path / 'raw'}"), "found no meld/", "Remedy", error=DataError)
    refused(configured(f"raw_dir={tmp_path / 'none'}"), "no such folder", error=DataError)
    refused(configured("corpora=[nobodys]"), "unknown corpus 'nobodys'", error=DataError)


def test_prompts_that_are_missing(configured, tmp_path):
    refused(configured(f"prompts.dir={tmp_path}"), "system.txt is missing", error=ValueError)


# ---- the run's folder ----


def test_a_run_that_exists(configured):
    check(configured("run.name=first"))
    refused(configured("run.name=first"), "exists", "run.resume=true", "NAME=")


def test_a_run_that_was_killed_before_its_settings_were_written(configured):
    folder = Path(configured().run.root) / "first"
    for again in ((), ("run.resume=true",)):
        folder.mkdir(parents=True)
        (folder / "lock").write_text("{}")
        (folder / "config.yaml.123.part").write_text("a: [")
        assert check(configured("run.name=first", *again)) == folder
        assert [p.name for p in folder.iterdir()] == ["config.yaml"]
        shutil.rmtree(folder)


def test_settings_are_never_half_written(configured, monkeypatch):
    """A kill, or a full disk, while a resumed run writes them."""
    folder = check(configured("run.name=first"))
    before = (folder / "config.yaml").read_text()

    def full(part, target):
        raise OSError(28, "No space left on device", str(part))

    monkeypatch.setattr("data_prep.files.commit", full)
    with pytest.raises(OSError):
        check(configured("run.name=first", "run.resume=true", "flywheel.iterations=3"))
    assert (folder / "config.yaml").read_text() == before


def test_two_starts_of_one_name(configured):
    first, second = configured("run.name=first"), configured("run.name=first")
    assert preflight._run_folder(second) == preflight._run_folder(first)  # both have seen that it is free
    folder = check(first)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(preflight, "_run_folder", lambda _: folder)
        with pytest.raises(PreflightError, match="has just been started; give another NAME"):
            check(second)


def test_a_run_that_another_process_works_on(configured):
    folder = check(configured("run.name=first"))
    with locked(folder), pytest.raises(LockedError, match=f"process {os.getpid()} on"):
        check(configured("run.name=first", "run.resume=true"))
    with locked(folder):
        preflight.discard_empty(folder)  # of a start that was refused
    assert folder.exists()


def test_a_run_that_was_moved(configured, tmp_path):
    folder = check(configured("run.name=first"))
    folder.parent.rename(tmp_path / "elsewhere")
    config = configured("run.name=first", "run.resume=true")
    config.run.root = str(tmp_path / "elsewhere")
    assert check(config) == tmp_path / "elsewhere/first"
    (tmp_path / "elsewhere/first").rename(tmp_path / "elsewhere/second")
    config = configured("run.name=second", "run.resume=true")
    config.run.root = str(tmp_path / "elsewhere")
    assert check(config) == tmp_path / "elsewhere/second"


def test_a_root_that_cannot_be_written_to(configured, monkeypatch, capsys):
    from recipe import main

    def mkdir(self, *_, **__):
        raise OSError(30, "Read-only file system", str(self))

    monkeypatch.setattr(Path, "mkdir", mkdir)
    with pytest.raises(SystemExit):
        main._train.__wrapped__(configured("run.name=first"))
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert "runs/first: Read-only file system; make it writable, or name a folder that is" in said


def test_a_run_that_failed_in_its_first_step_leaves_nothing(configured):
    folder = check(configured("run.name=first"))
    (folder / "data.work").mkdir()
    (folder / "eval").mkdir()
    preflight.discard_empty(folder)
    assert folder.exists()  # it has got further
    (folder / "eval").rmdir()
    preflight.discard_empty(folder)
    assert not folder.exists()
    preflight.discard_empty(None)


@pytest.mark.parametrize(
    "override",
    ["flywheel.iterations=abc", "test_rows=-1", "flywheel.cold_start_rows=0",
     "trainer.total_training_steps=0", "actor_rollout_ref.rollout.n=1", "evaluate.samples=1.5"],
)  # fmt: skip
def test_numbers_that_are_none(configured, override):
    name, _, value = override.partition("=")
    refused(configured(override), name, value, "must be a whole number, at least")


def test_settings_that_cannot_be_read(configured):
    folder = check(configured("run.name=first"))
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(ValueError, match=r"first/config.yaml: no YAML .*; restore it"):
        check(configured("run.name=first", "run.resume=true"))


def test_resuming(configured, tmp_path):
    refused(configured("run.name=first", "run.resume=true"), "no run", "to resume")
    folder = check(configured("run.name=first"))
    again = ("run.name=first", "run.resume=true")
    assert check(configured(*again)) == folder
    # What is not done yet may change.
    more = ("flywheel.iterations=2", "evaluate.stages=[rl]", "cluster.num_cpus=24")
    assert check(configured(*again, *more)) == folder
    refused(configured(*again, "run.seed=2"), "keeps its settings", "run.seed: 1 -> 2")
    refused(configured(*again, *more, "sft.optim.lr=0.5"), "sft.optim.lr")
    refused(configured(*again, *more, "+trainer.more=1"), "trainer.more: None -> 1")
    refused(configured(*again, *more, "flywheel.mix.original=5"), "flywheel.mix.original: 15000 -> 5")
    refused(configured(*again, *more, f"raw_dir={SAMPLES}"), "raw_dir")


def test_resuming_with_other_prompts(configured, tmp_path):
    for name in ("system", "user"):
        (tmp_path / f"{name}.txt").write_text("{name}")
    prompts = f"prompts.dir={tmp_path}"
    folder = check(configured("run.name=first", prompts))
    first = OmegaConf.load(folder / "config.yaml").prompts.digest
    assert first == load_templates(tmp_path).digest
    assert check(configured("run.name=first", "run.resume=true", prompts)) == folder
    (tmp_path / "user.txt").write_text("Hello {name}")
    refused(
        configured("run.name=first", "run.resume=true", prompts),
        f"prompts.dir={tmp_path} are not those the run began with (digest {first} then, ",
        "restore system.txt and user.txt",
    )
    assert OmegaConf.load(folder / "config.yaml").prompts.digest == first


def test_resuming_a_folder_that_is_no_run(configured, tmp_path):
    (tmp_path / "runs/first").mkdir(parents=True)
    (tmp_path / "runs/first/holiday.jpg").touch()
    refused(configured("run.name=first", "run.resume=true"), str(tmp_path / "runs/first"))


@pytest.mark.parametrize(
    "name", ["'../x'", "a/b", "/tmp/x", ".hidden", "'..'", "'a\tb'", "'a\x1b[2J'", "x" * 201]
)
def test_names_that_are_no_folder_names(configured, name):
    refused(configured(f"run.name={name}"), "run.name", "plain folder name")


# ---- settings ----


#: Micro-batches of fixed sizes, which the default experiments leave to the number of tokens.
FIXED = (
    "actor_rollout_ref.actor.use_dynamic_bsz=false actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=64 "
    "actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=64 "
    "actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=64 "
    "sft.data.use_dynamic_bsz=false +sft.data.micro_batch_size_per_gpu=16"
)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("flywheel.retrain_from=scratch", ("flywheel.retrain_from", "scratch", "base or policy")),
        ("flywheel.lambda_horizon=epoch", ("flywheel.lambda_horizon", "stage or run")),
        ("flywheel.iterations=-1", ("flywheel.iterations=-1",)),
        ("evaluate.stages=[cold,hot]", ("evaluate.stages", "hot", "retrained")),
        ("+sft.nonsense=1", ("sft.nonsense",)),
        ("+sft.data.nonsense=1", ("sft.data.nonsense",)),
        ("+sft.optim.nonsense=1", ("sft.optim.nonsense",)),
        (f"data.train_batch_size=7 {FIXED}", ("train_batch_size (7)", "ppo_mini_batch_size (32)")),
        ("actor_rollout_ref.actor.use_dynamic_bsz=false", ("ppo_micro_batch_size",)),
        ("run.seed=${no.such.key}", ("no.such.key",)),
        # What veRL's own objects refuse, and otherwise only the workers would.
        ("actor_rollout_ref.rollout.pipeline_model_parallel_size=2", ("pipeline_model_parallel_size",)),
        ("actor_rollout_ref.rollout.mode=sync", ("mode=async",)),
    ],
)
def test_settings_that_do_not_fit(configured, override, words):
    refused(configured(*override.split()), *words)


@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.n_gpus_per_node=3",),  # of 64 rollouts and 16 SFT rows
        ("trainer.n_gpus_per_node=3", "sft.data.train_batch_size=15"),  # of 64 rollouts
        ("trainer.n_gpus_per_node=2", "sft.data.train_batch_size=31"),
        # Micro-batches of a rank's share of a mini-batch; veRL only asserts this in the middle of the stage.
        ("actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu=48",),
        ("actor_rollout_ref.rollout.log_prob_micro_batch_size_per_gpu=48",),
        ("actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu=48",),
        ("sft.data.train_batch_size=16", "++sft.data.micro_batch_size_per_gpu=5"),
    ],
)
def test_batch_sizes_that_do_not_divide(configured, overrides):
    refused(configured(*FIXED.split(), *overrides))


def test_soft_labels_want_an_expert(configured):
    message = refused(configured("labels.kind=expert"))
    assert "labels.kind=gold (or votes), or an expert" in message
    bad = {
        "labels.kind=soft": "choose gold or votes or expert",
        "flywheel.min_reward=abc": "0 to 1.1",
        "flywheel.same_reply=-1": "0 to 1",
        "flywheel.mix.original=-5": "at least 1",
    }
    for override, words in bad.items():
        assert words in refused(configured(override))


@pytest.mark.parametrize("gpus", [3, 7])
def test_gpus_over_which_the_rows_cannot_be_shared_out(configured, gpus):
    batches = "data.train_batch_size=64 sft.data.train_batch_size=64"
    refused(configured(*batches.split(), f"trainer.n_gpus_per_node={gpus}"), f"the {gpus} training ranks")
    # 32 prompts of 8 rollouts each in a mini-batch; the SFT batch is one that can be shared out.
    message = refused(configured(f"sft.data.train_batch_size={gpus}", f"trainer.n_gpus_per_node={gpus}"))
    assert f"256 rows of a batch cannot be shared out evenly over {gpus} training ranks" in message
    assert "ppo_mini_batch_size" in message


@pytest.mark.parametrize(
    ("heads", "works"),
    [
        ((32, 8), [1, 2, 4, 8, 16, 32]),  # Qwen3-8B: beyond eight, key-value heads are copied
        ((9, 3), [1, 3, 9]),  # SmolLM2-135M
        ((4, 2), [1, 2, 4]),
        ((12, 8), [1, 2, 4]),  # 12 heads over 3 or 6 or 12 GPUs would leave 8 key-value heads uneven
        ((28, 4), [1, 2, 4, 28]),  # 7 and 14 GPUs: four key-value heads are no even number of copies
        ((16, 1), [1, 2, 4, 8, 16]),  # one key-value head for all
    ],
)
def test_over_how_many_gpus_a_layer_can_be_split(heads, works):
    assert [n for n in range(1, 33) if preflight.splits(n, *heads)] == works


def test_a_tensor_parallel_size_that_does_not_fit_the_model(configured, tmp_path, model_folder):
    size = "actor_rollout_ref.rollout.tensor_model_parallel_size"
    gpus = "trainer.n_gpus_per_node=8"
    words = ("=8 cannot split tiny", "4 attention heads and 2 key-value heads", "[1, 2, 4]")
    refused(configured(gpus, f"{size}=8"), size, *words)
    refused(configured(f"{size}=2"), f"{size}=2 does not divide the 1 GPUs of a node")
    folder = model_folder(tmp_path / "m", SMALL | {"num_attention_heads": 6, "num_key_value_heads": 3})
    refused(configured(gpus, f"{size}=2", model=folder), "6 attention heads and 3 key-value heads", "[1]")
    assert weights.attention_heads(str(folder)) == (6, 3)


def test_sft_takes_verl_s_own_settings(configured):
    from recipe.run.sft_config import sft_config

    config = configured("+sft.optim.betas=[0.9,0.95]", "sft.optim.lr=0.5")
    settings = sft_config(config.sft)
    assert settings.optim.lr == 0.5 and list(settings.optim.betas) == [0.9, 0.95]
    assert settings.trainer.seed == config.run.seed
    assert settings.data.messages_key  # veRL's own defaults stay


def test_an_unknown_override_is_refused(configured):
    with pytest.raises(ConfigCompositionException, match="nonsense.key"):
        configured("nonsense.key=1")


def test_an_unknown_override_on_the_command_line(root, tmp_path, subprocess_env):
    done = subprocess.run(
        [sys.executable, "-m", "recipe.main", "nonsense.key=1", f"run.root={tmp_path / 'runs'}"],
        cwd=tmp_path,
        env=subprocess_env(PROFILE="cpu", VERL_PLATFORM=None),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith("error: there is no setting nonsense.key;")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("flywheel.iteration=3", "no setting flywheel.iteration; flywheel.iterations is near"),
        ("hardware=tpu", "Could not find 'hardware/tpu' Available options in 'hardware': 1gpu 1gpu_lora"),
    ],
)
def test_what_was_probably_meant(override, said):
    from recipe.main import explain

    with initialize_config_dir(str(CONF), version_base=None), pytest.raises(HydraException) as refused:
        compose("self_emo", overrides=[override])
    assert said in explain(refused.value) and "\n" not in explain(refused.value)


def test_an_error_is_one_line_on_the_command_line(root, tmp_path, monkeypatch, capsys, configured):
    from recipe import main

    monkeypatch.setattr(sys, "argv", ["main"])
    with pytest.raises(SystemExit) as ended:
        main._train.__wrapped__(configured(model="nonsense"))
    assert ended.value.code == 1
    error = capsys.readouterr().err.strip().splitlines()
    assert len(error) == 1 and error[0].startswith("error: MODEL='nonsense'")


def test_what_may_differ_in_a_resumed_run(configured, monkeypatch):
    for name, value in {"BASE_URL": "http://h/v1", "MODEL": "m", "API_KEY": "k"}.items():
        monkeypatch.setenv(f"EXPERT_{name}", value)
    first = ("run.name=first", "expert=endpoint")
    refused(configured(*first, "expert.max_cost=5"), "needs prices", error=ValueError)
    refused(configured(*first, "expert.concurrency=0"), "concurrency=0 must be", error=ValueError)
    folder, again = check(configured(*first)), (*first, "run.resume=true")
    free = ("expert.max_cost=5", "expert.timeout=9", "expert.concurrency=1", "evaluate.samples=3")
    prices = "expert.endpoints=[{name: expert, base_url: '${oc.env:EXPERT_BASE_URL,null}', "
    prices += "model: '${oc.env:EXPERT_MODEL,null}', key: EXPERT_API_KEY, prompt_price: 1, answer_price: 2}]"
    assert check(configured(*again, *free, prices)) == folder
    refused(configured(*again, "expert.temperature=0.1"), "keeps its settings", "expert.temperature")
    refused(configured(*again, prices.replace("name: expert", "name: x")), "expert.endpoints")


def test_verl_s_types_are_checked_before_its_objects_are_made(configured):
    refused(
        configured("actor_rollout_ref.actor.use_kl_loss=perhaps", "+sft.optim.betas=0.9"),
        "actor_rollout_ref.actor.use_kl_loss='perhaps' must be true or false",
    )


def test_what_is_written_of_a_run_holds_no_credential_and_it_can_be_resumed(configured):
    given = ("run.name=first", "+env.HF_TOKEN=planted", "+trainer.tracker='https://u:planted@h/x'")
    folder = check(configured(*given))
    assert "planted" not in (folder / "config.yaml").read_text()
    config = configured(*given, "run.resume=true")
    assert check(config) == folder and config.env.HF_TOKEN == "planted"
