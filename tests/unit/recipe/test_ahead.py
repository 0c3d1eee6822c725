"""`make data MODEL=...`: experts are asked ahead of a run, which then asks nobody."""

from __future__ import annotations

import pytest

from data_prep.rows import read_rows
from recipe import ahead
from recipe.models import hub
from recipe.run.run import Run
from recipe.steps import data, seed
from tests.unit.composed import composed
from tests.unit.expert_server import SECRET, Server
from tests.unit.recipe.steps.test_seed_with_experts import reply, soft_label

pytestmark = pytest.mark.settings

WORDS = (
    "expert=endpoint", "download=null", "samples={train: 300, dev: 60, test: 90, seed: 1}", "corpora=[meld]",
    "train_rows=30", "dev_rows=5", "test_rows=4", "flywheel.cold_start_rows=20",
)  # fmt: skip


def test_personas_labels_and_responses_are_there_when_the_gpus_are(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SELF_EMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setattr(hub, "check", lambda repo: pytest.fail("a model was asked for"))
    with Server() as server:
        server.reply = lambda body: soft_label(body) or reply(body)
        named = {"EXPERT_BASE_URL": server.url, "EXPERT_MODEL": "m", "EXPERT_API_KEY": SECRET}
        for name, value in named.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.argv", ["ahead", "MODEL=Qwen3-8B", f"run.root={tmp_path / 'runs'}", *WORDS])
        assert ahead.main() == 0
        assert "asks for none of it again" in capsys.readouterr().out
        told = " ".join(m["content"] for body in server.bodies for m in body["messages"])
        assert "Speakers: " in told and "is labelled: " in told and "Allowed emotion labels" in told
        asked = len(server.bodies)
        # The run itself, as it would be on eight GPUs.
        run = Run(composed("model=qwen3-8b", "experiment=paper", "hardware=8gpu", *WORDS), tmp_path / "run")
        run.do("data", data.make)
        run.do("iter_0/buffer", seed.fill, ("data",))
        assert len(server.bodies) == asked
        assert any(row["response"] for row in read_rows(tmp_path / "run/iter_0/buffer/buffer.parquet"))


@pytest.mark.parametrize("words", [["MODEL=Qwen3-8B"], ["MODEL=tiny"], ["MODEL=Qwen3-8B", "expert=self"]])
def test_without_experts_nobody_is_asked(words, monkeypatch, capsys):
    for name in ("ARK_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.argv", ["ahead", *words])
    assert ahead.main() == 1
    said = capsys.readouterr()
    assert "nobody to be asked ahead of a run" in said.err and said.err.count("\n") == 1 and said.out == ""
