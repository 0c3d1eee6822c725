"""The A/B judge: verdicts, both orders, bias, agreement, and a real endpoint that prefers the first place."""

from __future__ import annotations

import json
import math

import pytest

from data_prep.experts.client import Answers, Endpoint, Settings
from data_prep.prepare import prepare
from data_prep.rows import read_rows, write_rows
from recipe.evaluation import judge
from tests.unit.expert_server import SECRET, Server
from tests.unit.samples import SAMPLES


def answer(reply: str, own: str = "{'joy': 0.9, 'anger': 0.1}") -> str:
    return (
        f"<think>hm</think>{{'last_emotions': {{'joy': 1.0}}, 'my_emotions': {own}, 'my_output': {reply!r}}}"
    )


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A run whose A says `fine A {i}` and whose B says `fine B {i}`; the first prompt's B breaks the rule."""
    monkeypatch.setenv("SELF_EMO_CACHE", str(tmp_path / "cache"))
    prepare(SAMPLES, tmp_path / "data", ["meld"])
    rows = read_rows(tmp_path / "data/test.parquet")[:5]
    write_rows(rows, tmp_path / "data/test.parquet")
    for stage, letter in (("cold", "A"), ("retrained", "B")):
        records = [
            {"row_id": row["extra_info"]["row_id"], "answer": answer(f"fine {letter} {i} {{x}}")}
            for i, row in enumerate(rows)
        ]
        if letter == "B":
            records[0]["answer"] = "nothing"
        (tmp_path / f"eval/{stage}").mkdir(parents=True)
        (tmp_path / f"eval/{stage}/records.json").write_text(json.dumps(records))
    return tmp_path


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("EXPERT_API_KEY", SECRET)
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.mark.parametrize(
    ("a_first", "b_first", "verdict"),
    [("1", "2", "a"), ("2", "1", "b"), ("1", "1", "tie"), ("2", "2", "tie"), ("tie", "1", "tie"),
     ("1", "tie", "tie"), ("tie", "tie", "tie")],
)  # fmt: skip
def test_a_winner_must_win_in_both_places(a_first, b_first, verdict):
    assert judge.combine(a_first, b_first) == verdict


VERDICT = '{"understanding": 1, "expression": "Tie"}'


@pytest.mark.parametrize(
    "text",
    [
        VERDICT,
        '{"Understanding": "1", "EXPRESSION": " TIE. "}',
        "{'understanding': 1.0, 'expression': 'tie'}",
        f"<think>{VERDICT.replace('1', '2')}</think>{VERDICT}",  # a draft
        f"```json\n{VERDICT}\n```\nNote: {{both}} answers are short.",
        f"{VERDICT}\nSo, once more: {VERDICT}",
        "{" + VERDICT + "}",  # braces doubled by a template
    ],
)
def test_verdicts_that_mean_one_thing_are_read(text):
    assert judge.read_verdict(text) == {"understanding": "1", "expression": "tie"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I cannot say.", "no dictionary"),
        ('{"understanding": "1"}', "understanding and expression"),
        ('{"understanding": "1", "expression": "3"}', "'3' is no verdict"),
        ('{"understanding": "1", "expression": "2", "why": "x"}', "and no other"),
        ('{"understanding": true, "expression": "2"}', "'True' is no verdict"),
        ('{"understanding": 1.5, "expression": "2"}', "'1.5' is no verdict"),
        ('{"understanding": "both", "expression": null}', "'both' is no verdict"),
        (f"{VERDICT} No: {VERDICT.replace('1', '2')}", "contradict each other"),
        ('{"understanding": 1, "expression": 2, "Understanding": 2}', "an aspect twice"),
        ('{"understanding": 1, "expression": 2, "understanding": 2}', "'understanding' twice"),
    ],
)
def test_an_answer_that_is_no_verdict_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        judge.read_verdict(text)


def test_kappa_by_hand():
    # Cohen's own kind of table: 20 both yes, 5 and 10 split, 15 both no: (0.7 - 0.5) / 0.5 = 0.4.
    first = ["a"] * 25 + ["b"] * 25
    second = ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15
    assert judge.cohen_kappa(first, second) == pytest.approx(0.4)
    assert judge.cohen_kappa(["a", "b", "tie"], ["a", "b", "tie"]) == 1.0
    assert math.isnan(judge.cohen_kappa(["a", "a"], ["a", "a"]))
    with pytest.raises(ValueError, match="equally long"):
        judge.cohen_kappa(["a"], [])


def pick(body: dict, wanted: str | None) -> str:
    """The place of the answer with ``wanted`` in it, or always the first one."""
    user = body["messages"][-1]["content"]
    place = "1" if wanted is None or user.index(wanted) < user.index("Answer 2") else "2"
    return f'So: {{"understanding": "{place}", "expression": "tie"}}'


def test_a_judge_that_knows_what_it_likes(run, server):
    server.reply = lambda body: pick(body, "fine B")
    settings = Settings((Endpoint("one", server.url, "m", "EXPERT_API_KEY"),))
    folder = judge.judge(run, "cold", "retrained", settings)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["pairs"], summary["left_out"]) == (4, 1)
    row = summary["aspects"]["understanding"]["judges"]["one"]
    assert (row["n"], row["a"], row["b"], row["tie"], row["first_place"]) == (4, 0, 1, 0, 0.5)
    assert row["p"] == pytest.approx(2 * 0.5**4)  # the sign test's exact tail, twice
    assert summary["aspects"]["expression"]["judges"]["one"]["tie"] == 1
    assert len(server.bodies) == 8  # both orders
    prompts = [body["messages"][-1]["content"] for body in server.bodies]
    assert all("cold" not in p and "retrained" not in p for p in prompts)  # blind
    assert all("joy 0.90, anger 0.10" in p and "{x}" in p for p in prompts)
    judge.judge(run, "cold", "retrained", settings)
    assert len(server.bodies) == 8  # nothing is asked twice
    kept = json.loads((folder / "verdicts-one.json").read_text())
    assert len(kept) == 4 and all("So:" in text for pair in kept.values() for text in pair["texts"])


def test_a_judge_that_likes_the_first_place_decides_nothing(run, server):
    def reply(body):
        return pick(body, None if body["model"] == "biased" else "fine A")

    server.reply = reply
    endpoints = [Endpoint(name, server.url, name, "EXPERT_API_KEY") for name in ("biased", "fair")]
    folder = judge.judge(run, "cold", "retrained", Settings(tuple(endpoints)), most=2)
    found = json.loads((folder / "summary.json").read_text())["aspects"]["understanding"]
    assert found["judges"]["biased"]["tie"] == 1 and found["judges"]["biased"]["first_place"] == 1
    assert found["judges"]["fair"]["a"] == 1 and found["judges"]["fair"]["n"] == 2
    assert found["kappa"] == {"biased, fair": 0.0}


def test_a_pair_that_a_judge_refused_is_not_counted(run):
    pairs, _ = judge.pairs_of(run, "cold", "retrained")
    said = ("one", '{"understanding": "1", "expression": "2"}')
    name = pairs[0]["row_id"]
    answers = Answers(texts={f"judge:{name}:ab": said, f"judge:{pairs[1]['row_id']}:ab": said,
                             f"judge:{name}:ba": said})  # fmt: skip
    assert list(judge.verdicts(pairs, answers)) == [name]


def test_a_judge_of_whom_nothing_can_be_used(run, server, capsys):
    """It is said, it is no result of zero, and it leaves an earlier result as it was."""
    mute, one = (Endpoint(name, server.url, name, "EXPERT_API_KEY") for name in ("mute", "one"))
    server.reply = lambda body: "Nice." if body["model"] == "mute" else pick(body, "fine B")
    folder = judge.judge(run, "cold", "retrained", Settings((mute, one), reasks=1), most=2)
    kept = (folder / "summary.json").read_text()
    summary, reason = json.loads(kept), "the answer ends with no dictionary"
    assert summary["set_aside"] == {"mute": {"n": 4, "reason": reason}}
    row = summary["aspects"]["understanding"]["judges"]["mute"]
    assert row == {"n": 0, "a": None, "b": None, "tie": None, "p": None, "first_place": None}
    assert f"mute: 4 answers set aside, most often because {reason}" in capsys.readouterr().out
    assert len((folder / "verdicts-mute.rejects.jsonl").read_text().splitlines()) == 4
    with pytest.raises(ValueError, match=r"no verdict can be used.*cold_retrained/rejects\.jsonl"):
        judge.judge(run, "cold", "retrained", Settings((mute,), reasks=1))
    assert (folder / "summary.json").read_text() == kept
    assert len((folder / "rejects.jsonl").read_text().splitlines()) == 8


def test_equal_answers_are_not_judged(run, server):
    """A judge that samples could prefer one of them, and from the cache it says the same twice."""
    server.reply = lambda body: pick(body, "fine B")
    records = {stage: run / f"eval/{stage}/records.json" for stage in ("cold", "retrained")}
    said = {stage: json.loads(path.read_text()) for stage, path in records.items()}
    said["retrained"][1]["answer"] = said["cold"][1]["answer"].replace("hm", "another thought")
    records["retrained"].write_text(json.dumps(said["retrained"]))
    settings = Settings((Endpoint("one", server.url, "m", "EXPERT_API_KEY"),))
    summary = json.loads((judge.judge(run, "cold", "retrained", settings) / "summary.json").read_text())
    assert (summary["pairs"], summary["alike"], summary["left_out"], len(server.bodies)) == (3, 1, 1, 6)
    records["retrained"].write_text(records["cold"].read_text())
    with pytest.raises(ValueError, match="answer all 5 prompts alike"):
        judge.judge(run, "cold", "retrained", settings)


def test_a_comparison_that_is_none(run):
    for stages, most in ((("cold", "cold"), None), (("cold", "retrained"), 0)):
        with pytest.raises(ValueError, match="two different checkpoints"):
            judge.pairs_of(run, *stages, most)
    (run / "eval/cold/records.json").write_text("{")
    with pytest.raises(ValueError, match=r"eval/cold/records.json: no JSON .*; delete its folder"):
        judge.pairs_of(run, "cold", "retrained")


def test_a_stage_without_answers(run):
    with pytest.raises(ValueError, match="'rl' has not been evaluated"):
        judge.pairs_of(run, "cold", "rl")
    records = [{"row_id": r["row_id"], "answer": "x"} for r in judge.pairs_of(run, "cold", "retrained")[0]]
    (run / "eval/cold/records.json").write_text(json.dumps(records))
    with pytest.raises(ValueError, match="no prompt has an answer"):
        judge.pairs_of(run, "cold", "retrained")
