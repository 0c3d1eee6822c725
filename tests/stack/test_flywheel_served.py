"""Checkpoints of a real run behind vLLM's server: on the page of `make chat`, and asked as experts are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil
import pyarrow.parquet as pq
import pytest
from omegaconf import OmegaConf, open_dict

from data_prep.corpora.dialogue import Dialogue, Utterance
from data_prep.experts.client import Endpoint, Request, Settings, ask_all
from data_prep.experts.cold_start import ask_responses, complaint
from data_prep.experts.personas import THEME, ask_personas
from recipe.models import self_expert
from recipe.models.serve import MODEL, served
from tests.browser import browser, needs_browser
from tests.stack.flywheel_run import ROOT, descendants

pytestmark = [pytest.mark.stack, pytest.mark.timeout(2100)]


@needs_browser
def test_a_persona_can_be_talked_to(run):
    """`make chat` with two checkpoints: the page, driven in a browser, answered by vLLM."""
    chat = subprocess.Popen(
        [sys.executable, "-m", "recipe.pages.chat", "--port", "7871",
         "--run", f"{run['folder']}:cold", f"{run['folder']}:retrained"],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, env=os.environ | {"PROFILE": "cpu"},
    )  # fmt: skip
    try:
        while not (line := chat.stdout.readline()).startswith("open "):
            assert line, "the chat ended early"
        with browser() as page:
            page.open("http://127.0.0.1:7871/")
            page.wait_for("document.querySelectorAll('.talk').length === 2")
            page.run("$('line').value = 'I lost my keys again.'; $('send').click()")
            page.wait_for("document.querySelectorAll('.reply').length === 2 && !$('send').disabled")
            replies = page.run("[...document.querySelectorAll('.reply')].map(reply => reply.innerText)")
            assert page.problems == []
        assert all("reads Alex as" in reply or "breaks the rule" in reply for reply in replies), replies
        assert any("feels" in reply for reply in replies), replies
    finally:
        started = {p.pid for p in psutil.Process(chat.pid).children(recursive=True)}
        chat.send_signal(signal.SIGINT)
        chat.wait(60)
    assert not descendants(started)


def test_experts_are_asked_through_vllm_s_own_server(run, tmp_path):
    """The client of the experts against a real OpenAI-compatible server; then again without it."""
    config = OmegaConf.load(run["folder"] / "config.yaml")
    rows = pq.read_table(run["folder"] / "data/test.parquet").to_pylist()[::6]  # of all corpora
    asked = [
        Request(
            row["extra_info"]["row_id"],
            row["prompt"],
            lambda text, labels=row["extra_info"]["labels"]: complaint(text, labels),
        )
        for row in rows
    ]
    settings = {"reasks": 0, "max_tokens": 64, "max_tokens_cap": 64, "temperature": 0.0, "retries": 0}
    with served(run["folder"] / "iter_0/sft/model", config, tmp_path / "log.txt") as url:
        experts = Settings((Endpoint("vllm", url, MODEL),), **settings)
        first = ask_all(asked, experts, tmp_path / "cache", "answers")
    assert first.asked == 12 and len(first.texts) + len(first.rejects) == 12
    assert len(first.texts) >= 3  # it has learnt the format, more or less
    again = ask_all(asked, experts, tmp_path / "cache", "answers")
    assert (again.asked, again.cached, again.texts) == (0, 12, first.texts)


def test_a_model_that_follows_no_instruction_is_its_own_expert(run, tmp_path):
    """`expert=self` asks vLLM's server, which holds a tiny model to the form of what is asked at last."""
    config = OmegaConf.load(run["folder"] / "config.yaml")
    with open_dict(config):
        config.base.path = str(run["folder"] / "base/model")
        config.expert = {
            **{"kind": "self", "context": 4096, "reasks": 1, "max_tokens": 400, "max_tokens_cap": 1400},
            **{"temperature": 0.7, "retries": 0, "timeout": 600.0},
        }
    rows = pq.read_table(run["folder"] / "data/train.parquet").to_pylist()[:3]
    speakers = ["Mira", 'Dr. "O" Neil']
    spoken = tuple(Utterance(str(i), name, "I lost my keys.", None) for i, name in enumerate(speakers))
    with self_expert.serving(config, tmp_path / "log.txt") as settings:
        responses, asked = ask_responses(rows, settings, tmp_path / "cache")
        profiles, told = ask_personas([Dialogue("meld", "train", "d", spoken)], settings, tmp_path / "cache")
    assert asked.held >= len(rows) - 1 and responses.keys() == {r["extra_info"]["row_id"] for r in rows}
    assert told.held == 1 and profiles["meld:train:d"].keys() == {*speakers, THEME}
