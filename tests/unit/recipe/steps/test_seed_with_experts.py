"""The flywheel's data and first buffer with experts behind an endpoint, a real HTTP server here."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import contextmanager, nullcontext

import pytest
from omegaconf import OmegaConf

from data_prep.experts.client import ExpertError
from data_prep.rows import read_rows
from recipe.models import self_expert, tiny
from recipe.models.serve import ServeError
from recipe.run.process import StageError
from recipe.run.run import Run
from recipe.steps import data, seed
from tests.unit.composed import composed
from tests.unit.expert_server import SECRET, Server

pytestmark = pytest.mark.settings


def reply(body: dict) -> str:
    """An expert: personas for whoever speaks; a response with the first allowed label, but for a `?`."""
    system, user = (message["content"] for message in body["messages"][:2])
    if speakers := re.search(r"^Speakers: (.*)$", user, re.M):
        names = speakers[1].split(", ")
        return "Analysis.\n" + json.dumps(
            {n: f"{n}, as an expert sees it" for n in names} | {"Theme": "Ties"}
        )
    if user.rstrip().count("?"):
        return "I would rather not."
    label = re.search(r"Allowed emotion labels: (\w+)", system)[1]
    emotions = {label: 1.0}
    said = {"last_emotions": emotions, "my_emotions": emotions, "my_output": "Yes."}
    return f"<think>So.</think>\n{said}"


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("EXPERT_API_KEY", SECRET)
    monkeypatch.setenv("SELF_EMO_CACHE", str(tmp_path / "cache"))
    with Server() as server:
        server.reply = reply
        yield server


def test_personas_and_responses_of_an_expert_reach_the_buffer(server, tmp_path, capsys):
    expert = {"name": "wise", "base_url": server.url, "model": "m", "key": "EXPERT_API_KEY"}
    config = OmegaConf.create(
        {
            "samples": {"train": 300, "dev": 60, "test": 90, "seed": 1},
            "labels": {"kind": "gold"}, "personas": {"scope": "dialogue"},
            "prompts": {"dir": "full"}, "run": {"seed": 3, "retries": 0}, "raw_dir": None,
            "corpora": ["meld"], "decontaminate": "report", "train_rows": 30, "dev_rows": 5, "test_rows": 4,
            "expert": {"kind": "endpoint", "endpoints": [expert], "reasks": 1, "concurrency": 4},
            "flywheel": {"mix": {"original": 30, "self_play": 5}, "cold_start_rows": 20, "held_out": 0.05,
                         "min_reward": 0.4},
            "sft": {"data": {"train_batch_size": 16}},
        }
    )  # fmt: skip

    def filled(name: str) -> list[dict]:
        run = Run(config, tmp_path / name)
        run.do("data", data.make)
        run.do("iter_0/buffer", seed.fill)
        return read_rows(tmp_path / name / "iter_0/buffer/buffer.parquet")

    rows = filled("first")
    for row in rows:
        name = row["extra_info"]["persona"]["name"]
        assert row["extra_info"]["persona"]["profile"] == f"{name}, as an expert sees it"
        assert f"{name}, as an expert sees it" in row["prompt"][0]["content"]
        assert row["extra_info"]["theme"] == "Ties"
    answered = [row for row in rows if row["response"]]
    rejects = (tmp_path / "first/iter_0/buffer/responses.rejects.jsonl").read_text().splitlines()
    assert len(rows) == 30 and answered and rejects and len(answered) + len(rejects) == 20
    assert all(row["response_from"]["source"] == "wise" for row in answered)
    assert "reasoning must stand between" in json.loads(rejects[0])["reason"]
    good = sum(row["response_from"]["reward"] > 0.4 for row in answered)
    counts = json.loads((tmp_path / "first/iter_0/buffer/counts.json").read_text())
    assert counts == {"rows": 30, "with_response": len(answered), "above_min_reward": good}
    card = (tmp_path / "first/data/data_card.html").read_text()
    assert "as an expert sees it" in card
    asked = len(server.bodies)
    assert filled("second") == rows and len(server.bodies) == asked  # every answer was on disk
    texts = [p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()]
    captured = capsys.readouterr()
    assert (
        0 < good < 16
        and f"only {good} of D_0's responses have a reward above flywheel.min_reward=0.4" in (captured.out)
    )
    assert not any(SECRET.encode() in t for t in (*texts, captured.out.encode(), captured.err.encode()))


def test_the_base_model_as_its_own_expert(server, tmp_path, monkeypatch, capsys):
    """No key; the served model writes personas, labels and responses, and what keeps the rule is kept."""
    monkeypatch.delenv("EXPERT_API_KEY")
    tiny.make_tiny(["You are Mira. Labels: neutral."], tmp_path / "model", 1)
    asked = []

    @contextmanager
    def served(checkpoint, config, log, name, longest):
        asked.append((checkpoint, name, longest))
        yield server.url

    monkeypatch.setattr(self_expert, "served", served)
    overrides = [
        "expert=self", "model=any", "base.name=mine", f"base.path={tmp_path / 'model'}", "labels.kind=expert",
        "samples={train: 300, dev: 60, test: 90, seed: 1}", "corpora=[meld]", "train_rows=30", "dev_rows=5",
        "test_rows=4", "flywheel.cold_start_rows=20",
    ]  # fmt: skip
    run = Run(composed(*overrides), tmp_path / "run")
    server.reply = lambda body: soft_label(body) or reply(body)
    run.do("data", data.make)
    run.do("iter_0/buffer", seed.fill)
    assert len(asked) == 2 and len(set(asked)) == 1  # for personas and labels, and for responses
    checkpoint, name, longest = asked[0]
    assert checkpoint == str(tmp_path / "model") and name.startswith("self-") and longest == 2048
    rows = read_rows(tmp_path / "run/iter_0/buffer/buffer.parquet")
    answered = [row for row in rows if row["response"]]
    assert answered and all(row["response_from"]["source"] == "self" for row in answered)
    assert all(
        len(row["reward_model"]["ground_truth"]) >= 1 and row["extra_info"]["theme"] == "Ties" for row in rows
    )
    out = capsys.readouterr().out
    assert "mine is its own expert" in out
    assert f"{len(answered)} of 20 responses kept the rule ({len(answered) / 20:.0%})" in out
    systems = [body["messages"][0]["content"] for body in server.bodies]
    assert any("Examples, of other people in other dialogues" in text for text in systems)
    # No response may be longer than a rollout; personas, which are written before, may.
    assert {body["max_tokens"] for body in server.bodies} == {56, 2048}
    before = len(server.bodies)
    shutil.rmtree(tmp_path / "run/iter_0")
    run.do("iter_0/buffer", seed.fill)
    assert len(server.bodies) == before  # answers are known again, the server being another one
    assert {key for key in server.keys if key} <= {"Bearer none"}


def soft_label(body: dict) -> str | None:
    """An expert that adds nothing to the gold label."""
    found = re.search(r"is labelled: (\w+)", body["messages"][1]["content"])
    return f"Plain.\n{{'{found[1]}': 1.0}}" if found else None


def test_a_base_model_that_can_write_no_persona_does_without(server, tmp_path, monkeypatch, capsys):
    """The offline stand-in's sentences and the corpora's labels take the place of what it cannot write."""
    tiny.make_tiny(["You are Mira. Labels: neutral."], tmp_path / "model", 1)
    monkeypatch.setattr(self_expert, "served", lambda *_, **__: nullcontext(server.url))
    overrides = [
        "expert=self", "model=any", "base.name=mine", f"base.path={tmp_path / 'model'}", "labels.kind=expert",
        "samples={train: 60, dev: 60, test: 60, seed: 1}", "corpora=[meld]", "expert.reasks=0",
    ]  # fmt: skip
    run = Run(composed(*overrides), tmp_path / "run")
    server.reply = lambda body: "I cannot."
    run.do("data", data.make)
    assert "personas: 0 answers" in capsys.readouterr().out
    rows = read_rows(tmp_path / "run/data/train.parquet")
    assert all(row["extra_info"]["persona"]["profile"] for row in rows)
    with pytest.raises(ExpertError, match="responses: none of"):
        run.do("iter_0/buffer", seed.fill)

    def broken(*_, **__):
        raise ServeError("vLLM's server did not start")

    monkeypatch.setattr(self_expert, "served", broken)
    with pytest.raises(StageError, match="mine cannot be its own expert: vLLM's server did not start"):
        run.do("iter_0/buffer", seed.fill)
