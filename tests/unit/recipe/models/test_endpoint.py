"""A model that is served elsewhere is asked the test rows (`make eval ENDPOINT=...`)."""

from __future__ import annotations

import json

import pytest

from data_prep.experts.client import ExpertError
from recipe import flywheel
from recipe.run.preflight import check
from recipe.run.run import Run
from recipe.score import configured
from tests.unit.expert_server import SECRET, Server

pytestmark = [pytest.mark.settings, pytest.mark.usefixtures("quick_compose")]
SIZES = ("samples={train: 60, dev: 60, test: 60, seed: 1}", "corpora=[meld]", "test_rows=12")
SAID = "<think>hm</think>{'last_emotions': {'joy': 1}, 'my_emotions': {'joy': 1}, 'my_output': 'a'}"


@pytest.fixture
def server(monkeypatch, tmp_path):
    monkeypatch.setenv("VERL_PLATFORM", "cpu")
    monkeypatch.setenv("SELF_EMO_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ENDPOINT_API_KEY", raising=False)
    with Server() as server:
        server.reply = lambda body: SAID
        yield server


def asked(server, tmp_path, *more: str):
    return configured(
        [f"ENDPOINT={server.url}", "MODEL=maker/large", f"run.root={tmp_path / 'runs'}", *SIZES, *more]
    )


def scored(config):
    folder = check(config, training=False)
    return folder, flywheel.score(Run(config, folder))


def test_a_model_behind_an_endpoint_is_scored_as_one_that_is_here(server, tmp_path, monkeypatch):
    folder, results = scored(asked(server, tmp_path, "NAME=first"))
    assert len(server.bodies) == 12 and results["base"]["meld"]["n"] == 12
    gold = [json.loads((folder / "eval/base/records.json").read_text())[i]["gold"] for i in range(12)]
    assert results["base"]["meld"]["accuracy"] == pytest.approx(gold.count("joy") / 12) and "joy" in gold
    body = server.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"]) == ("maker/large", 0, 4096)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]  # nothing is asked again
    assert set(server.keys) == {"Bearer none"}
    base = json.loads((folder / "base/base.json").read_text())
    assert base == {"path": "maker/large", "at": server.url}
    assert json.loads((folder / "eval/answers/test.usage.json").read_text())["asked"] == 12
    assert (folder / "report.html").is_file() and (folder / "eval/base/predictions/meld.parquet").is_file()
    # What was answered is not asked, nor paid, again.
    monkeypatch.setenv("ENDPOINT_API_KEY", SECRET)
    again, results_again = scored(asked(server, tmp_path, "NAME=second"))
    assert results_again["base"] == results["base"] and len(server.bodies) == 12
    assert not any(SECRET.encode() in p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())


def test_what_an_endpoint_will_not_answer_is_wrong_and_its_key_is_sent(server, tmp_path, monkeypatch):
    monkeypatch.setenv("ENDPOINT_API_KEY", SECRET)
    server.script = [(400, {"error": {"message": "content filter"}})]
    _, results = scored(asked(server, tmp_path, "NAME=first", "evaluate.endpoint.concurrency=1"))
    assert results["base"]["meld"]["valid"] == pytest.approx(11 / 12)
    assert set(server.keys) == {f"Bearer {SECRET}"}


def test_an_answer_that_a_fault_broke_off_is_not_the_model_s_and_is_asked_for_again(server, tmp_path):
    one_at_a_time = ("evaluate.endpoint.concurrency=1", "evaluate.endpoint.retries=0")
    server.script = ["ok", {"message": {"content": "<think>"}, "finish_reason": "error"}]
    with pytest.raises(ExpertError, match=r"1 of 12 answers were broken off .*finish_reason=error"):
        scored(asked(server, tmp_path, "NAME=first", *one_at_a_time))
    assert len(server.bodies) == 12
    _, results = scored(asked(server, tmp_path, "NAME=second", *one_at_a_time))
    assert len(server.bodies) == 13 and results["base"]["meld"]["valid"] == 1


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["evaluate.samples=4"], "evaluate.samples=4: an endpoint is asked once"),
        (["expert=self"], "expert=self asks the base model"),
        (["evaluate.endpoint.concurrency=0"], r"evaluate\.endpoint\.concurrency=0 must"),
    ],
)
def test_what_cannot_be_asked_of_an_endpoint_is_told_before_anything_is(server, tmp_path, more, said):
    with pytest.raises(ExpertError, match=said):
        check(asked(server, tmp_path, *more), training=False)
    assert server.bodies == [] and not (tmp_path / "runs").exists()


@pytest.mark.parametrize("address", ["localhost:8000", "http://h/v1/chat/completions", "http://u:p@h:x/v1"])
def test_an_address_that_is_none(tmp_path, address):
    config = configured([f"ENDPOINT={address}", "MODEL=m", f"run.root={tmp_path}", *SIZES])
    with pytest.raises(ExpertError, match=r"evaluate\.endpoint\.endpoints.*base_url") as caught:
        check(config, training=False)
    assert "u:p" not in str(caught.value) and "\n" not in str(caught.value)


def test_an_endpoint_wants_a_model_of_its_own():
    for words in (["ENDPOINT=http://h/v1"], ["ENDPOINT=http://h/v1", "MODEL="], ["ENDPOINT=h", "RUN=x"]):
        with pytest.raises(ValueError, match="asked for a model by the name that it has there"):
            configured(words)
