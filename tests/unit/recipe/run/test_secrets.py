"""No credential is written, and somebody else's run folder reads nothing here and sets no variable."""

from __future__ import annotations

import json
import os

import pytest
from omegaconf import OmegaConf

from recipe.run import process
from recipe.run.files import read_config, read_own_config


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
            "env": {"HF_TOKEN": "planted-1", "VERL_PLATFORM": "cpu"},
            "expert": {"endpoints": [{"base_url": "http://h/planted-2", "key": "planted-3"}]},
            "trainer": {"tracker": "https://u:planted-4@h/x?key=planted-5", "name": "${env.VERL_PLATFORM}"},
        }
    )
    process.run_stage("sft", config, tmp_path, total=1)
    (env,) = started
    assert env["HF_TOKEN"] == "planted-1"
    assert "planted" not in "".join(p.read_text() for p in tmp_path.iterdir())
    written = OmegaConf.load(tmp_path / "config.yaml")
    assert written.trainer == {"tracker": "https://***@h/x?***", "name": "cpu"}
    assert written.env == {"HF_TOKEN": "***", "VERL_PLATFORM": "cpu"}


def test_a_stage_fills_in_what_it_inherited(monkeypatch, tmp_path):
    from recipe.on_verl import stage

    seen = []
    monkeypatch.setitem(
        stage.STAGES, "sft", lambda config: seen.append((dict(config.env), os.environ["HF_TOKEN"]))
    )
    (tmp_path / "config.yaml").write_text("{env: {HF_TOKEN: '***'}, run: {preload: []}}")
    monkeypatch.setenv("HF_TOKEN", "inherited")
    for name in ("VERL_FILE_LOGGER_PATH", "TENSORBOARD_DIR", "WANDB_DIR"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setattr("sys.argv", ["stage", "sft", str(tmp_path / "config.yaml")])
    stage.main()
    assert seen == [({"HF_TOKEN": "inherited"}, "inherited")]


@pytest.mark.parametrize(
    "text", ["${oc.env:PLANTED}", "a ${oc.env:PLANTED,x}", "${oc.select:no,${oc.env:PLANTED}}"]
)
def test_somebody_else_s_run_reads_nothing_of_the_reader_s(monkeypatch, tmp_path, text):
    monkeypatch.setenv("PLANTED", "planted")
    settings = {"base": {"name": text}, "env": {"LD_PRELOAD": "/x.so", "PATH": "/x", "OMP_NUM_THREADS": "2"}}
    (tmp_path / "config.yaml").write_text(json.dumps(settings))
    config = read_config(tmp_path)
    assert "planted" not in str(OmegaConf.to_container(config, resolve=True))
    assert dict(config.env) == {"OMP_NUM_THREADS": "2"}
    assert "planted" in str(OmegaConf.to_container(read_own_config(tmp_path), resolve=True))
