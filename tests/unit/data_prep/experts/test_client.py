"""The experts' client against a real HTTP server on this machine that misbehaves in every way we know."""

from __future__ import annotations

import json
import traceback

import pytest

from data_prep.corpora.dialogue import Dialogue, Utterance
from data_prep.experts import client as experts
from data_prep.experts import cold_start, personas
from data_prep.experts.client import Endpoint, ExpertError, Request, Settings, ask_all
from tests.unit.expert_server import SECRET, Server


@pytest.fixture
def server():
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """The pauses between retries are the client's; only their length is changed."""
    monkeypatch.setenv("EXPERT_API_KEY", SECRET)
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    monkeypatch.setattr("openai._base_client.MAX_RETRY_DELAY", 0.02)
    real = experts.asyncio.sleep

    async def short(seconds, *more):
        await real(min(seconds, 0.01), *more)

    monkeypatch.setattr(experts.asyncio, "sleep", short)


def settings(server: Server, **changes) -> Settings:
    endpoint = Endpoint("one", server.url, "m", "EXPERT_API_KEY", prompt_price=2.0, answer_price=4.0)
    return Settings(**{"endpoints": (endpoint,), "timeout": 0.4, "retries": 3, "max_tokens": 100} | changes)


def requests(count: int, check=lambda text: None) -> list[Request]:
    return [Request(f"r{i}", [{"role": "user", "content": f"question {i}"}], check) for i in range(count)]


@pytest.mark.parametrize("trouble", [429, 500, 503, "slow", "cut", "truncated", "schema", "html"])
def test_what_goes_wrong_on_the_way_is_asked_again(server, tmp_path, trouble):
    server.script = [trouble, trouble]
    answers = ask_all(requests(1), settings(server), tmp_path, "test")
    assert answers.texts == {"r0": ("one", "fine")} and len(server.bodies) == 3
    assert (answers.asked, answers.rejects) == (1, [])
    # 1,000 tokens to read at 2 a million, 500 written at 4 a million.
    assert answers.cost == pytest.approx(0.002 + 0.002)


def test_what_was_on_disk_counts_among_what_had_to_be_bought(server, tmp_path):
    ask_all(requests(2), settings(server), tmp_path / "cache", "test")
    answers = ask_all(requests(3), settings(server), tmp_path / "cache", "test")
    assert answers.cost == pytest.approx(0.004) and answers.price == pytest.approx(3 * 0.004)
    answers.write(tmp_path / "made", {})
    written = json.loads((tmp_path / "made.usage.json").read_text())
    assert written.pop("price") == pytest.approx(0.012)
    assert written == {"asked": 1, "cached": 2, "prompt_tokens": 3000, "answer_tokens": 1500}


def test_tokens_that_nobody_counted_are_guessed_from_letters(server, tmp_path):
    """An endpoint may leave them out, and so does an answer of an older cache."""
    server.usage = (0, 0)
    answers = ask_all(requests(1), settings(server), tmp_path, "test")
    (path,) = tmp_path.glob("*/*.json")
    path.write_text(json.dumps({"text": "fine"}))
    for found in (answers, ask_all(requests(1), settings(server), tmp_path, "test")):
        # "question 0" to read and "fine" written, 3.5 letters a token.
        assert (found.prompt_tokens, found.answer_tokens) == pytest.approx((10 / 3.5, 4 / 3.5))
        assert found.price == pytest.approx((10 / 3.5 * 2 + 4 / 3.5 * 4) / 1e6)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (500, "still answers status 500 after 3 retries"),
        (429, "still answers status 429"),
        ("cut", "cannot be reached"),
        ("slow", "cannot be reached (APITimeoutError"),
        ("truncated", "answers with no JSON instead"),
        ("schema", "answers with JSON of another form"),
        ("html", "answers with a web page instead of a chat completion; is base_url"),
        (401, "refuses the key in EXPERT_API_KEY"),
        (404, "knows no model 'm'"),
    ],
)
def test_what_stays_wrong_is_a_clear_error_without_the_key(server, tmp_path, trouble, said):
    server.script = [trouble] * 100
    with pytest.raises(ExpertError) as caught:
        ask_all(requests(2), settings(server), tmp_path, "test")
    assert said in str(caught.value) and server.url in str(caught.value)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_stopped_run_goes_on_without_asking_again(server, tmp_path):
    server.script = ["ok"] * 5 + [401] * 100
    with pytest.raises(ExpertError):
        ask_all(requests(12), settings(server, concurrency=1), tmp_path, "test")
    server.script = []
    assert len(server.answered) == 5
    answers = ask_all(requests(12), settings(server), tmp_path, "test")
    assert (answers.cached, answers.asked, len(answers.texts)) == (5, 7, 12)
    assert sorted(server.answered) == sorted(f"question {i}" for i in range(12))  # each answered once
    again = ask_all(requests(12), settings(server), tmp_path, "test")
    assert (again.cached, again.asked, again.texts) == (12, 0, answers.texts)


def test_a_refused_answer_is_asked_again_with_the_complaint_then_set_aside(server, tmp_path):
    replies = iter(["bad", "good"])
    server.reply = lambda body: next(replies)
    check = lambda text: None if text == "good" else "it is bad"  # noqa: E731
    answers = ask_all(requests(1, check), settings(server), tmp_path, "test")
    assert answers.texts == {"r0": ("one", "good")}
    roles = [(m["role"], m["content"]) for m in server.bodies[1]["messages"][1:]]
    assert roles[0] == ("assistant", "bad") and "it is bad" in roles[1][1]
    server.reply = lambda body: "still bad"
    answers = ask_all(requests(2, check), settings(server, reasks=1, temperature=0.1), tmp_path, "test")
    assert answers.texts == {} and answers.asked == 4
    assert answers.rejects[0] | {"name": ""} == {
        "name": "", "endpoint": "one", "reason": "it is bad", "answer": "still bad"
    }  # fmt: skip


def test_a_request_that_the_endpoint_refuses_is_set_aside(server, tmp_path):
    server.script = [400]
    answers = ask_all(requests(2), settings(server, concurrency=1), tmp_path, "test")
    assert len(answers.texts) == 1
    assert answers.rejects[0]["reason"] == "the endpoint refused the request (status 400)"


def test_what_an_endpoint_refused_after_a_complaint_names_both(server, tmp_path):
    server.script = ["ok", 400]
    server.reply = lambda body: "bad"
    answers = ask_all(requests(1, lambda text: "it is bad"), settings(server), tmp_path, "test")
    reason = answers.rejects[0]["reason"]
    assert reason == "it is bad; asked again: the endpoint refused the request (status 400)"
    with pytest.raises(ExpertError, match="test: none of 1 answers can be used; one ended with 'bad'"):
        answers.check_some("test")


@pytest.mark.parametrize("concurrency", [1, 4])
def test_the_cost_cap_stops_before_it_is_passed(server, tmp_path, concurrency):
    server.usage = (3, 500)  # 0.002 each
    capped = settings(server, max_cost=0.01, concurrency=concurrency, max_tokens=500)
    with pytest.raises(ExpertError, match=r"over expert.max_cost=0.01 .* every answer so far is kept"):
        ask_all(requests(20), capped, tmp_path, "test")
    # A fifth could have passed the cap by what it had to read; of several at once some may be called off.
    assert len(server.bodies) == 4 if concurrency == 1 else 1 <= len(server.bodies) <= 4


def test_at_most_so_many_requests_at_once(server, tmp_path):
    server.script = ["slow"] * 4
    ask_all(requests(4), settings(server, concurrency=2, timeout=5.0), tmp_path, "test")
    assert server.most_at_once == 2


def test_endpoints_share_the_requests_and_the_key_stays_in_its_header(server, tmp_path, capsys):
    both = tuple(Endpoint(name, server.url, name, "EXPERT_API_KEY") for name in ("a", "b"))
    answers = ask_all(requests(40), settings(server, endpoints=both), tmp_path / "cache", "test")
    used = [endpoint for endpoint, _ in answers.texts.values()]
    assert 10 < used.count("a") < 30
    assert set(server.keys) == {f"Bearer {SECRET}"}
    answers.write(tmp_path / "out", {"x": "y"})
    captured = capsys.readouterr()
    texts = [p.read_text() for p in tmp_path.rglob("*") if p.is_file()]
    assert len(texts) == 43 and not any(SECRET in text for text in (*texts, captured.out, captured.err))
    assert "40 requests to a, b, 0 answered before" in captured.err


def test_settings_that_cannot_work(monkeypatch):
    config = {
        "kind": "endpoint",
        "endpoints": [{"name": "x", "base_url": "u", "model": "m", "key": "NO_SUCH_KEY"}],
    }
    with pytest.raises(ExpertError, match="NO_SUCH_KEY is not set"):
        Settings.of(config)
    with pytest.raises(ExpertError, match="expert.endpoints is empty"):
        Settings.of({"kind": "endpoint", "endpoints": []})
    for name in ("ARK_API_KEY", "DEEPSEEK_API_KEY", "EXPERT_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ExpertError, match="ARK_API_KEY, DEEPSEEK_API_KEY is not set"):
        experts.load_experts("mixed")
    with pytest.raises(ExpertError, match="set EXPERT_BASE_URL and EXPERT_MODEL"):
        experts.load_experts("endpoint")
    with pytest.raises(ExpertError, match="there is no expert 'wise'; choose endpoint, mixed, offline"):
        experts.load_experts("wise")
    assert experts.load_experts("offline") is None
    monkeypatch.setenv("ARK_API_KEY", "a")
    monkeypatch.setenv("DEEPSEEK_API_KEY", "b")
    assert [e.name for e in experts.load_experts("mixed").endpoints] == ["seed-1.8", "deepseek-v3.2"]


@pytest.mark.parametrize(
    ("expert", "said"),
    [
        ("mixed", "ARK_API_KEY, DEEPSEEK_API_KEY is not set"),
        ("endpoint", "answers with a web page instead of a chat completion"),
    ],
)
def test_make_data_says_what_is_wrong_with_an_expert_and_writes_nothing(
    server, tmp_path, monkeypatch, capsys, expert, said
):
    from data_prep.prepare import main

    for name in ("ARK_API_KEY", "DEEPSEEK_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("EXPERT_BASE_URL", server.url)
    monkeypatch.setenv("EXPERT_MODEL", "m")
    monkeypatch.setenv("SELF_EMO_CACHE", str(tmp_path / "cache"))
    server.script = ["html"] * 1000
    (tmp_path / "out").mkdir()
    (tmp_path / "out/personas.json").write_text("{}")
    command = ["prepare", "--out-dir", str(tmp_path / "out"), "--corpora", "meld", "--expert", expert]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 1
    assert f"error: {'expert' if expert == 'endpoint' else 'the experts'}" in (err := capsys.readouterr().err)
    assert said in err and SECRET not in err
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["personas.json"]


DIALOGUE = Dialogue(
    "meld",
    "train",
    "7",
    tuple(
        Utterance(str(i), speaker, text, "joy")
        for i, (speaker, text) in enumerate([("Ann", "I {won}!"), ("Bo", "Great."), ("Ann", "Yes.")])
    ),
)


def test_personas_are_asked_for_and_checked(server, tmp_path):
    good = 'Ann is glad. {not this}\n{"Ann": "A lively\nperson.", "Bo": "A calm person.", "Theme": "Winning"}'
    replies = iter(['{"Ann": "A lively person.", "Theme": "Winning"}', good.replace("\nperson", " person")])
    server.reply = lambda body: next(replies)
    profiles, answers = personas.ask_personas([DIALOGUE], settings(server), tmp_path)
    assert profiles == {
        "meld:train:7": {"Ann": "A lively person.", "Bo": "A calm person.", "Theme": "Winning"}
    }
    assert "lacks Bo" in server.bodies[1]["messages"][-1]["content"] and answers.rejects == []
    asked = server.bodies[0]["messages"][1]["content"]
    assert "Ann: I {won}!\nBo: Great.\nAnn: Yes." in asked and "Speakers: Ann, Bo\n" in asked


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no dictionary", "ends with no dictionary"),
        ("{'Ann': 'x', 'Theme': 1}", "must map names to text"),
        ("{'Ann': 'x', 'Theme': 'y', 'Zed': 'z'}", "names Zed, who does not speak"),
        ("{'Ann': ' ', 'Theme': 'y'}", "the text of Ann is empty"),
        ("{'Ann': '%s', 'Theme': 'y'}" % ("x" * 601), "longer than one sentence"),
        ("{'Ann': __import__('os').getcwd(), 'Theme': 'y'}", "ends with no dictionary"),
        ("analysis\n{'Ann': 'x', 'Theme': 'y'}", None),
        ('```python\n{"Ann": "x {y}", "Theme": "z"}\n```', None),
    ],
)
def test_answers_about_personas(text, said):
    found = personas.complaint(text, ["Ann"])
    assert found is None if said is None else said in found


def test_cold_start_responses_go_through_the_rule_of_rollouts(server, tmp_path):
    from data_prep.prepare import dialogue_rows
    from data_prep.prompt import load_templates

    rows = list(dialogue_rows(DIALOGUE, load_templates("compact")))
    good = (
        "<think>x</think>\n{'last_emotions': {'joy': 1.0}, 'my_emotions': {'joy': 0.5}, 'my_output': 'Yes.'}"
    )

    def reply(body):
        asked = body["messages"]
        if "Bo: Great." in asked[1]["content"] and len(asked) < 4:
            return "```python\n" + good + "\n```"  # fenced: the rule wants the dictionary last
        return good if "Ann: Yes." not in asked[1]["content"] else good.replace("joy", "Bliss")

    server.reply = reply
    responses, answers = cold_start.ask_responses(rows, settings(server, reasks=1), tmp_path)
    assert responses == {"meld:7:0": ("one", good), "meld:7:1": ("one", good)}
    (reject,) = answers.rejects
    assert reject["name"] == "respond:meld:7:2" and "only the allowed labels" in reject["reason"]
    assert any("without a code fence" in b["messages"][-1]["content"] for b in server.bodies)
    assert "First think between" in server.bodies[0]["messages"][0]["content"]  # the full instructions


def test_every_reason_of_the_rule_has_words():
    from rewards.parse import REASONS

    assert set(cold_start.COMPLAINTS) == set(REASONS)
