"""The A/B judge: verdicts, both orders, bias, agreement, and a real endpoint that prefers the first place."""

from __future__ import annotations

import json
import math
import random
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.experts.client import Answers, Endpoint, Settings
from data_prep.rows import read_rows, write_rows
from recipe.evaluation import judge, judge_pairs, verdicts
from recipe.evaluation.kappa import cohen_kappa
from recipe.pages.judge_section import judged
from tests.unit.expert_server import SECRET, Server
from tests.unit.fake_run import make_run, prompts, rollouts_of_step


def answer(reply: str, own: str) -> str:
    return (
        f"<think>hm</think>{{'last_emotions': {{'joy': 1.0}}, 'my_emotions': {own}, 'my_output': {reply!r}}}"
    )


OWN = {"A": "{'joy': 0.9, 'anger': 0.1}", "B": "{'joy': 0.8, 'neutral': 0.2}"}


@pytest.fixture(scope="module")
def rows():
    """Test rows of the sample dialogues."""
    return [row for row in prompts("test", 5) if row["data_source"] == "meld"]


@pytest.fixture
def run(tmp_path, monkeypatch, rows):
    """A run whose A says `fine A {i}` and whose B says `fine B {i}`; the first prompt's B breaks the rule."""
    monkeypatch.setenv("SELF_EMO_CACHE", str(tmp_path / "cache"))
    write_rows(rows, tmp_path / "data/test.parquet")
    for stage, letter in (("cold", "A"), ("retrained", "B")):
        records = [
            {"row_id": row["extra_info"]["row_id"], "answer": answer(f"fine {letter} {i} {{x}}", OWN[letter])}
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
    with Server() as server:
        yield server


@pytest.mark.parametrize(
    ("a_first", "b_first", "verdict"),
    [("1", "2", "a"), ("2", "1", "b"), ("1", "1", "tie"), ("2", "2", "tie"), ("tie", "1", "tie"),
     ("1", "tie", "tie"), ("tie", "tie", "tie")],
)  # fmt: skip
def test_a_winner_must_win_in_both_places(a_first, b_first, verdict):
    assert verdicts.combine(a_first, b_first) == verdict


VERDICT = '{"verdict": 1}'


@pytest.mark.parametrize(
    "text",
    [
        VERDICT,
        '{"VERDICT": " 1. "}',
        "{'verdict': 1.0}",
        '{"\uff36\uff45\uff32\uff24\uff29\uff23\uff34": "\uff11"}',  # in full width
        "{'\\x76erdict': '\\u0031'}",
        f"<think>{VERDICT.replace('1', '2')}</think>{VERDICT}",  # a draft
        f"```json\n{VERDICT}\n```\nNote: {{both}} answers are short.",
        f"{VERDICT}\nSo, once more: {VERDICT}",
        "{" + VERDICT + "}",  # braces doubled by a template
    ],
)
def test_verdicts_that_mean_one_thing_are_read(text):
    assert verdicts.read_verdict(text) == "1"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("I cannot say.", "no dictionary"),
        ('{"understanding": "1"}', "the key verdict"),
        ('{"verdict": "3"}', "'3' is no verdict"),
        ('{"verdict": "1", "why": "x"}', "and no other"),
        ('{"verdict": true}', "'True' is no verdict"),
        ('{"verdict": 1.5}', "'1.5' is no verdict"),
        ('{"verdict": null}', "is no verdict"),
        (f"{VERDICT} No: {VERDICT.replace('1', '2')}", "contradict each other"),
        ('{"verdict": 1, "Verdict": 2}', "a key twice"),
        ('{"verdict": 1, "verdict": 2}', "'verdict' stands twice"),
    ],
)
def test_an_answer_that_is_no_verdict_is_named(text, said):
    with pytest.raises(ValueError, match=said):
        verdicts.read_verdict(text)


def test_kappa_by_hand():
    # Cohen's own kind of table: 20 both yes, 5 and 10 split, 15 both no: (0.7 - 0.5) / 0.5 = 0.4.
    first = ["a"] * 25 + ["b"] * 25
    second = ["a"] * 20 + ["b"] * 5 + ["a"] * 10 + ["b"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(["a", "b", "tie"], ["a", "b", "tie"]) == 1.0
    assert math.isnan(cohen_kappa(["a", "a"], ["a", "a"]))
    with pytest.raises(ValueError, match="equally long"):
        cohen_kappa(["a"], [])


def pick(body: dict, wanted: str | None) -> str:
    """The place of the answer with ``wanted`` in it, or always the first; a tie where it is in neither."""
    user = body["messages"][-1]["content"]
    place = user.find(wanted or "Answer 1")
    verdict = "tie" if place < 0 else "1" if place < user.index("Answer 2") else "2"
    return f'So: {{"verdict": "{verdict}"}}'


def test_a_judge_that_knows_what_it_likes(run, server):
    server.reply = lambda body: pick(body, "fine B")
    settings = Settings((Endpoint("one", server.url, "m", "EXPERT_API_KEY"),))
    folder = judge.judge(run, "cold", "retrained", settings)
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["pairs"], summary["left_out"]) == (4, 1)
    row = summary["aspects"]["expression"]["judges"]["one"]
    assert (row["n"], row["a"], row["b"], row["tie"], row["first_place"]) == (4, 0, 1, 0, 0.5)
    assert row["p"] == pytest.approx(2 * 0.5**4)  # the sign test's exact tail, twice
    assert summary["aspects"]["understanding"]["judges"]["one"]["tie"] == 1
    prompts = [body["messages"][-1]["content"] for body in server.bodies]
    assert all("cold" not in p and "retrained" not in p for p in prompts)  # blind
    assert all("joy 0.90, anger 0.10" in p and "joy 0.80, neutral 0.20" in p for p in prompts)
    # Both orders of each aspect; what understanding is asked about holds no reply.
    assert len(prompts) == 16 and sum("fine A" in p and "{x}" in p for p in prompts) == 8
    judge.judge(run, "cold", "retrained", settings)
    assert len(server.bodies) == 16  # nothing is asked twice
    kept = json.loads((folder / "verdicts-one.json").read_text())
    assert len(kept) == 4 and all("So:" in t for p in kept.values() for a in p.values() for t in a["texts"])


def test_the_page_gets_answers_and_reasoning(run, server):
    server.reply = lambda body: "The person is glad. " + pick(body, "fine B")
    judge.judge(run, "cold", "retrained", Settings((Endpoint("one", server.url, "m", "EXPERT_API_KEY"),)))
    (shown,), problems = judged(run)
    assert problems == [] and len(shown["examples"]) == shown["judged_pairs"] == 4
    example = shown["examples"][0]
    assert example["a"]["think"] == "hm" and "fine A 1" in example["a"]["rest"]
    understanding, expression = example["verdicts"]
    assert (understanding["verdict"], expression["verdict"]) == ("tie", "b")
    assert all(text.startswith("The person is glad. So:") for text in expression["texts"])
    (run / "judge/cold_retrained/pairs.json").write_text("{")
    (problem,) = judged(run)[1]
    assert "pairs.json: no JSON" in problem and "make judge writes it again" in problem


def test_a_judge_that_likes_the_first_place_decides_nothing(run, server):
    def reply(body):
        return pick(body, None if body["model"] == "biased" else "fine A")

    server.reply = reply
    endpoints = [Endpoint(name, server.url, name, "EXPERT_API_KEY") for name in ("biased", "fair")]
    folder = judge.judge(run, "cold", "retrained", Settings(tuple(endpoints)), most=2)
    found = json.loads((folder / "summary.json").read_text())["aspects"]["expression"]
    assert found["judges"]["biased"]["tie"] == 1 and found["judges"]["biased"]["first_place"] == 1
    assert found["judges"]["fair"]["a"] == 1 and found["judges"]["fair"]["n"] == 2
    assert found["kappa"] == {"biased, fair": 0.0}


def test_a_pair_that_a_judge_refused_is_not_counted(run):
    pairs, _ = judge_pairs.find_pairs(run, "cold", "retrained")
    first, second = (pair.row_id for pair in pairs[:2])
    names = [f"{first}:understanding:ab", f"{first}:understanding:ba", f"{first}:expression:ab"]
    names += [f"{second}:expression:{order}" for order in ("ab", "ba")]
    answers = Answers(texts={f"judge:{name}": ("one", '{"verdict": "1"}') for name in names})
    found = verdicts.verdicts(pairs, answers)
    assert {row_id: list(of) for row_id, of in found.items()} == {
        first: ["understanding"],
        second: ["expression"],
    }


def test_a_judge_of_whom_nothing_can_be_used(run, server, capsys):
    """It is said, it is no result of zero, and it leaves an earlier result as it was."""
    mute, one = (Endpoint(name, server.url, name, "EXPERT_API_KEY") for name in ("mute", "one"))
    server.reply = lambda body: "Nice." if body["model"] == "mute" else pick(body, "fine B")
    folder = judge.judge(run, "cold", "retrained", Settings((mute, one), reasks=1), most=2)
    kept = (folder / "summary.json").read_text()
    summary, reason = json.loads(kept), "the answer ends with no dictionary"
    assert summary["set_aside"] == {"mute": {"n": 8, "reason": reason}}
    row = summary["aspects"]["understanding"]["judges"]["mute"]
    assert row == {"n": 0, "a": None, "b": None, "tie": None, "p": None, "first_place": None}
    assert f"mute: 8 answers set aside, most often because {reason}" in capsys.readouterr().out
    assert len((folder / "verdicts-mute.rejects.jsonl").read_text().splitlines()) == 8
    with pytest.raises(ValueError, match=r"no verdict can be used.*cold_retrained/rejects\.jsonl"):
        judge.judge(run, "cold", "retrained", Settings((mute,), reasks=1))
    assert (folder / "summary.json").read_text() == kept
    assert len((folder / "rejects.jsonl").read_text().splitlines()) == 16


def test_equal_answers_are_not_judged(run, server):
    """A judge that samples could prefer one of them, and from the cache it says the same twice."""
    server.reply = lambda body: pick(body, "fine B")
    records = {stage: run / f"eval/{stage}/records.json" for stage in ("cold", "retrained")}
    said = {stage: json.loads(path.read_text()) for stage, path in records.items()}
    said["retrained"][1]["answer"] = said["cold"][1]["answer"].replace("hm", "another thought")
    said["retrained"][2]["answer"] = said["retrained"][2]["answer"].replace(OWN["B"], OWN["A"])
    records["retrained"].write_text(json.dumps(said["retrained"]))
    settings = Settings((Endpoint("one", server.url, "m", "EXPERT_API_KEY"),))
    summary = json.loads((judge.judge(run, "cold", "retrained", settings) / "summary.json").read_text())
    assert (summary["pairs"], summary["left_out"], len(server.bodies)) == (4, 1, 2 * (2 + 3))
    assert {aspect: found["alike"] for aspect, found in summary["aspects"].items()} == {
        "understanding": 2,
        "expression": 1,
    }
    records["retrained"].write_text(records["cold"].read_text())
    with pytest.raises(ValueError, match="answer all 5 prompts alike"):
        judge.judge(run, "cold", "retrained", settings)


def test_a_comparison_that_is_none(run):
    for stages, most in ((("cold", "cold"), None), (("cold", "retrained"), 0)):
        with pytest.raises(ValueError, match="two different checkpoints"):
            judge_pairs.find_pairs(run, *stages, most)
    (run / "eval/cold/records.json").write_text("{")
    with pytest.raises(ValueError, match=r"eval/cold/records.json: no JSON .*; delete its folder"):
        judge_pairs.find_pairs(run, "cold", "retrained")


def test_a_stage_without_answers(run):
    with pytest.raises(ValueError, match="'rl' has not been evaluated"):
        judge_pairs.find_pairs(run, "cold", "rl")
    records = [
        {"row_id": r.row_id, "answer": "x"} for r in judge_pairs.find_pairs(run, "cold", "retrained")[0]
    ]
    (run / "eval/cold/records.json").write_text(json.dumps(records))
    with pytest.raises(ValueError, match="no prompt has an answer"):
        judge_pairs.find_pairs(run, "cold", "retrained")


# ---- early and late in RL ----


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run whose RL saw the prompts of its first step in its last one, too."""
    folder = make_run(tmp_path_factory.mktemp("runs") / "judged")
    rows = {row["extra_info"]["row_id"]: row for row in read_rows(folder / "iter_1/rl/train.parquet")}
    asked = dict.fromkeys(
        pq.read_table(folder / "iter_1/rl/rollouts/step_000001.parquet")["row_id"].to_pylist()
    )
    late = rollouts_of_step([rows[row_id] for row_id in asked], 6, 6, 0.9, random.Random(5))
    pq.write_table(pa.Table.from_pylist(late), folder / "iter_1/rl/rollouts/step_000006.parquet")
    return folder


def test_early_and_late_rollouts_of_the_same_prompts(trained):
    """Six steps: the first against the last; of a prompt's rollouts one that keeps the rule."""
    names = judge_pairs.full_names(trained, "early_1", "late_1")
    pairs, left_out = judge_pairs.find_pairs(trained, *names)
    steps = {}
    for step in (1, 6):
        rollouts = pq.read_table(trained / f"iter_1/rl/rollouts/step_{step:06d}.parquet").to_pylist()
        steps[step] = {(r["row_id"], r["response"]): r for r in rollouts}
    both = {row_id for row_id, _ in steps[1]} & {row_id for row_id, _ in steps[6]}
    assert len(pairs) + left_out == len(both) > 0
    for pair in pairs:
        assert all(steps[step][pair.row_id, text]["valid"] for step, text in ((1, pair.a), (6, pair.b)))
        assert pair.label and pair.context and pair.persona["name"]
    assert [pair.a for pair in judge_pairs.find_pairs(trained, *names)[0]] == [pair.a for pair in pairs]


def test_what_early_and_late_mean(trained):
    assert judge_pairs.full_names(trained, "early", "late") == ("early_1", "late_2")
    assert judge_pairs.full_names(trained, "cold", "rl") == ("cold", "rl")
    for names, said in (
        (("early", "cold"), "did not answer the same prompts"),
        (("early", "late_3"), "there is no RL stage 3; there are 1, 2"),
    ):
        with pytest.raises(ValueError, match=said):
            judge_pairs.full_names(trained, *names)


def test_a_stage_that_saw_every_prompt_once_has_no_pairs(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "once")
    for path in sorted((run / "iter_1/rl/rollouts").glob("*.parquet")):
        table = pq.read_table(path)
        once = [f"{name}:{path.stem}" for name in table["row_id"].to_pylist()]
        pq.write_table(table.set_column(table.column_names.index("row_id"), "row_id", [once]), path)
    with pytest.raises(ValueError, match="no prompt in common.*trainer.total_epochs"):
        judge_pairs.find_pairs(run, "early_1", "late_1")
