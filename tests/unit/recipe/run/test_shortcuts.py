"""MODEL, RAW_DIR and NAME as the Hydra overrides that they stand for, and the choice of hardware."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hydra._internal.utils import get_args_parser
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from recipe.run import shortcuts
from recipe.run.shortcuts import CONF, choose_hardware, count_gpus, expand, keys_of
from recipe.run.verl_settings import verl_settings


def expanded(*arguments: str, **environment: str) -> dict[str, object]:
    """What Hydra would be told, as key -> value, on a machine without GPUs unless told otherwise."""
    parsed = OverridesParser.create().parse_overrides(expand(arguments, {"PROFILE": "cpu"} | environment))
    return OmegaConf.to_container(OmegaConf.create({o.key_or_group: o.value() for o in parsed}), resolve=True)


def test_nothing_but_the_hardware_is_added():
    environment = {"PROFILE": "cpu"}
    assert expand([], environment) == ["hardware=cpu"]
    assert environment == {"PROFILE": "cpu", "VERL_PLATFORM": "cpu"}


@pytest.mark.parametrize("stem", sorted(p.stem for p in (CONF / "model").glob("*.yaml") if p.stem != "any"))
def test_known_models_bring_their_experiment(stem):
    base = yaml.safe_load((CONF / "model" / f"{stem}.yaml").read_text())["base"]
    for spelling in (stem, stem.upper(), base["name"], base["name"] + "-Instruct"):
        found = expanded(f"MODEL={spelling}")
        assert found["model"] == stem
        assert found.get("experiment") == base.get("experiment")
        assert "base.path" not in found
    assert base.get("experiment") is None or (CONF / "experiment" / f"{base['experiment']}.yaml").is_file()


def test_the_models_of_the_paper_run_the_paper_s_profile():
    for model in ("Qwen3-8B", "Qwen3-4B"):
        assert expanded(f"MODEL={model}")["experiment"] == "paper"


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen3-0.6B", "Qwen3-0.6B"),
        ("/models/my model", "my model"),
        ("./here", "here"),
        ("~/models/a=b,c[1]", "a=b,c[1]"),
        ("/models/it's", "it's"),
        ("any", "any"),
    ],
)
def test_any_other_model_is_a_folder_or_a_hub_id(model, name):
    found = expanded(f"MODEL={model}")
    assert (found["model"], found["base.path"], found["base.name"]) == ("any", model, name)


def test_any_other_model_brings_the_experiment_that_its_file_names():
    named = yaml.safe_load((CONF / "model" / "any.yaml").read_text())["base"]
    assert expanded("MODEL=/models/mine", "hardware=cpu")["experiment"] == named["experiment"]
    assert expanded("MODEL=/models/mine", "hardware=8gpu")["experiment"] == named["gpu_experiment"]
    assert expanded("MODEL=tiny", "hardware=8gpu").get("experiment") is None


@pytest.mark.parametrize(
    "name", ["M\u00fcller", "\u6a21\u578b", 'a"b', "a\\b", 'a\\"b', "a\\", "${a}", "\\${a}"]
)
def test_names_reach_hydra_as_they_are(tmp_path, name):
    found = expanded(f"MODEL={tmp_path}/{name}", f"RAW_DIR={tmp_path}/{name}", f"NAME={name}")
    assert found["base.path"] == f"{tmp_path}/{name}"
    assert found["base.name"] == found["run.name"] == name
    assert found["raw_dir"] == f"{tmp_path.resolve()}/{name}"


def test_raw_dir_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert expanded("RAW_DIR=corpora")["raw_dir"] == str(tmp_path.resolve() / "corpora")
    assert expanded("RAW_DIR=~no-such-user/c")["raw_dir"] == str(tmp_path.resolve() / "~no-such-user/c")
    assert expanded("RAW_DIR=~/c")["raw_dir"] == str((tmp_path / "home/c").resolve())
    assert expanded(f"RAW_DIR={tmp_path}/a b")["raw_dir"] == str(tmp_path.resolve() / "a b")


@pytest.mark.parametrize("name", ["first", "123", "1e5", "true", "null", "2026-01-01"])
def test_name_stays_text(name):
    assert expanded(f"NAME={name}")["run.name"] == name


def test_without_keys_the_base_model_is_its_own_expert():
    keys = {"ARK_API_KEY": "a", "DEEPSEEK_API_KEY": "b"}
    assert keys_of("paper") == keys_of("ablation_original_only") == sorted(keys)
    assert keys_of("smoke") == keys_of("no-such-experiment") == []
    assert expanded("MODEL=Qwen3-8B")["expert"] == "self"
    assert expanded("experiment=ablation_grpo", ARK_API_KEY="a")["expert"] == "self"
    assert "expert" not in expanded("MODEL=Qwen3-8B", **keys)  # the paper's, as the experiment chooses
    assert expanded("MODEL=Qwen3-8B", "expert=endpoint")["expert"] == "endpoint"
    assert "expert" not in expanded("MODEL=tiny")


def test_empty_shortcuts_are_none():
    assert expanded("MODEL=", "RAW_DIR=", "NAME=") == {"hardware": "cpu"}


def test_what_the_user_overrides_is_left_alone():
    assert expanded("MODEL=qwen3-8b", "experiment=smoke")["experiment"] == "smoke"
    assert expanded("hardware=1gpu")["hardware"] == "1gpu"
    order = expand(["MODEL=/m", "base.name=mine", "run.name=x", "NAME=y"], {"PROFILE": "cpu"})
    assert order.index("base.name=mine") > order.index('base.name="m"')  # the last one counts
    assert order.index("run.name=x") > order.index('run.name="y"')


def test_other_arguments_keep_their_place():
    assert expand(["a=1", "+b.c=2", "~d"], {"PROFILE": "cpu"}) == ["hardware=cpu", "a=1", "+b.c=2", "~d"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--cfg", "job"],
        ["run.seed=2", "--cfg", "job"],
        ["--cfg", "job", "run.seed=2"],
        ["MODEL=tiny", "--cfg", "job", "run.seed=2"],
    ],
)
def test_hydra_s_own_flags_go_on_working(arguments):
    parsed = get_args_parser().parse_args(expand(arguments, {"PROFILE": "cpu"}))
    assert parsed.cfg == "job"
    assert "hardware=cpu" in parsed.overrides
    assert ("run.seed=2" in parsed.overrides) == ("run.seed=2" in arguments)


# ---- hardware ----


@pytest.mark.parametrize(
    ("gpus", "group"),
    [(0, "cpu"), (1, "1gpu"), (2, "2gpu"), (3, "2gpu"), (4, "4gpu"), (7, "4gpu"), (8, "8gpu"), (16, "8gpu")],
)
def test_hardware_by_the_number_of_gpus(monkeypatch, gpus, group):
    assert choose_hardware(gpus) == group
    assert (CONF / "hardware" / f"{group}.yaml").is_file()
    monkeypatch.setattr(shortcuts, "count_gpus", lambda environment: gpus)
    environment: dict[str, str] = {}
    assert expand([], environment) == [f"hardware={group}"]
    assert environment == ({"VERL_PLATFORM": "cpu"} if group == "cpu" else {})


def test_the_cpu_profile_asks_for_no_gpu(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(shortcuts.os.path, "exists", lambda path: path == "/dev/nvidiactl")
    assert count_gpus({"PROFILE": "cpu"}) == 0
    assert count_gpus({}) == count_gpus({"PROFILE": "gpu"}) == 4
    monkeypatch.setattr(shortcuts.os.path, "exists", lambda path: False)
    assert count_gpus({}) == 0  # no driver, so nothing that torch could count


def test_hydra_says_where_verl_is_missing(monkeypatch):
    assert Path(verl_settings().removeprefix("file://"), "ppo_trainer.yaml").is_file()
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert verl_settings() == "pkg://verl.trainer.config"


def test_the_platform_follows_the_hardware():
    for arguments, given, wanted in (
        (["hardware=cpu"], {}, {"VERL_PLATFORM": "cpu"}),
        (["hardware=1gpu"], {}, {}),
        (["hardware=cpu"], {"VERL_PLATFORM": "other"}, {"VERL_PLATFORM": "other"}),
    ):
        environment = dict(given)
        expand(arguments, environment)
        assert environment == wanted


def test_conf_is_where_hydra_looks(root):
    assert Path(CONF).resolve() == root / "conf" and (CONF / "self_emo.yaml").is_file()
