"""No credential is written, and somebody else's run folder reads nothing here and sets no variable."""

from __future__ import annotations

import json
import os

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import OmegaConf

from recipe.run import process
from recipe.run.files import read_config, read_own_config
from recipe.run.shortcuts import CONF


def test_a_stage_has_its_credentials_from_its_environment_alone(monkeypatch, tmp_path):
    started = []

    class Process:
        returncode = 0

        def __init__(self, command, env, **_):
            started.append(env)

        def poll(self):
            return 0

    monkeypatch.setattr(process.subprocess, "Popen", Process)
    config = OmegaConf.create(
        {
            "env": {"HF_TOKEN": "planted-1", "VERL_PLATFORM": "cpu", "HTTPS_PROXY": "http://u:planted-6@h"},
            "expert": {"endpoints": [{"base_url": "http://h/planted-2", "key": "planted-3"}]},
            "trainer": {"tracker": "https://u:planted-4@h/x?key=planted-5", "name": "${env.VERL_PLATFORM}"},
        }
    )
    process.run_stage("sft", config, tmp_path, total=1)
    (env,) = started
    assert (env["HF_TOKEN"], env["HTTPS_PROXY"]) == ("planted-1", "http://u:planted-6@h")
    assert "planted" not in "".join(p.read_text() for p in tmp_path.iterdir())
    written = OmegaConf.load(tmp_path / "config.yaml")
    assert written.trainer == {"tracker": "https://***@h/x?***", "name": "cpu"}
    assert written.env == {"HF_TOKEN": "***", "VERL_PLATFORM": "cpu", "HTTPS_PROXY": "http://***@h"}
    assert "HTTPS_PROXY" not in process.shown_variables(written)


@pytest.mark.parametrize(
    "text", [r"a \${oc.env:HOME}", "$${empty}{oc.env:HOME}", r"C:\\${empty}", r"x\\\${a}"], ids=str
)
def test_settings_are_resolved_once(monkeypatch, tmp_path, text):
    """A stage that reads them again makes nothing else of them, whatever a text looks like by then."""

    class Process:
        returncode = 0
        poll = staticmethod(lambda: 0)

    monkeypatch.setattr(process.subprocess, "Popen", lambda *_, **__: Process)
    config = OmegaConf.create({"empty": "", "text": text, "list": [text]})
    process.run_stage("sft", config, tmp_path, total=1)
    again = OmegaConf.load(tmp_path / "config.yaml")
    assert again.text == again.list[0] == config.text


def test_what_a_stage_has_inherited_is_no_setting(monkeypatch, tmp_path):
    """veRL prints all settings into the log, and hands them to trackers."""
    from recipe.on_verl import stage

    seen = []
    monkeypatch.setitem(
        stage.STAGES, "sft", lambda config: seen.append((str(config), os.environ["HF_TOKEN"]))
    )
    (tmp_path / "config.yaml").write_text("{env: {HF_TOKEN: '***', A: b}, run: {preload: []}}")
    monkeypatch.setenv("A", "other")
    monkeypatch.setenv("HF_TOKEN", "inherited")
    for name in ("VERL_FILE_LOGGER_PATH", "TENSORBOARD_DIR", "WANDB_DIR"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr("sys.argv", ["stage", "sft", str(tmp_path / "config.yaml")])
    stage.main()
    ((settings, token),) = seen
    assert "inherited" not in settings and token == "inherited" and os.environ["A"] == "b"


def test_ray_is_not_given_credentials_for_a_cluster_s_workers(monkeypatch, capsys):
    import ray

    from recipe.on_verl import ray_session

    given = []

    def init(**options):
        given.append(str(options))
        raise RuntimeError("enough")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setattr(ray_session, "get_ppo_ray_runtime_env", lambda config: {"env_vars": {}})
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    variables = {"HF_TOKEN": "planted", "HTTPS_PROXY": "http://***@h", "OMP_NUM_THREADS": "2"}
    with (
        pytest.raises(RuntimeError, match="enough"),
        ray_session.connected(OmegaConf.create({"env": variables})),
    ):
        pass
    assert "planted" not in given[0] and "HTTPS_PROXY" not in given[0] and "OMP_NUM_THREADS" in given[0]
    assert "HF_TOKEN, HTTPS_PROXY may hold credentials and are not handed" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:PLANTED}",
        "a ${oc.env:PLANTED,x}",
        "${oc.select:no,${oc.env:PLANTED}}",
        "${oc.decode:${oc.env:PLANTED}}",
        # Half of the reference stands in another setting.
        "${${half}:PLANTED}",
        "${oc.${rest}:PLANTED}",
        "${${oc.select:half}:PLANTED}",
        "${ ${ half } :PLANTED}",
    ],
)
def test_somebody_else_s_run_reads_nothing_of_the_reader_s(monkeypatch, tmp_path, text):
    monkeypatch.setenv("PLANTED", "planted")
    settings = {
        "base": {"name": text},
        "half": "oc.env",
        "rest": "env",
        "env": {"LD_PRELOAD": "/x.so", "PATH": "/x", "OMP_NUM_THREADS": "2"},
    }
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    config = read_config(tmp_path)
    assert "planted" not in str(OmegaConf.to_container(config, resolve=True))
    assert dict(config.env) == {"OMP_NUM_THREADS": "2"}
    assert "planted" in str(OmegaConf.to_container(read_own_config(tmp_path), resolve=True))


@pytest.mark.parametrize(
    "wrong",
    ["base.path=/nowhere", "raw_dir=/nowhere", "flywheel.turns=-1", "+env.MY_KEY={a: planted}", "again"],
)
def test_a_failed_start_tells_and_leaves_no_credential(monkeypatch, tmp_path, capsys, wrong):
    from recipe import main

    given = ["hardware=cpu", f"run.root={tmp_path}", "run.name=mine", "+env.HF_TOKEN=planted"]
    given += ["+trainer.tracker='https://u:planted@h/x?key=planted'"]
    if wrong == "again":  # a run that was begun with another credential, and another setting
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/config.yaml").write_text("{env: {HF_TOKEN: planted-before}, run: {seed: 9}}")
        given, before = [*given, "run.resume=true"], {tmp_path / "mine/config.yaml"}
    else:
        given, before = [*given, wrong], set()
    with initialize_config_dir(str(CONF), version_base=None):
        config = compose("self_emo", given)
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setattr("sys.argv", ["main"])
    with pytest.raises(SystemExit):
        main._train.__wrapped__(config)
    said = capsys.readouterr()
    assert said.err.startswith("error: ") and "planted" not in said.err + said.out
    left = {path for path in tmp_path.rglob("*") if path.is_file()} - before
    assert not any("planted" in path.read_text() for path in left)


@pytest.mark.parametrize(
    "word", ["+env.HF_TOKEN={planted", "++env.HF_TOKEN='planted", "env.HF_TOKEN=planted"]
)
def test_a_slip_on_the_command_line_is_shown_without_its_credential(word):
    from recipe.main import explain

    with (
        pytest.raises(HydraException) as caught,
        initialize_config_dir(str(CONF), version_base=None),
    ):
        compose("self_emo", [word])
    assert "HF_TOKEN" in explain(caught.value) and "planted" not in explain(caught.value)
