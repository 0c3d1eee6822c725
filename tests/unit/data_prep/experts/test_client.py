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
    assert answers.rejects[0]["reason"] == "the endpoint refused the request (status 400: no: [the key])"


def test_what_an_endpoint_refused_after_a_complaint_names_both(server, tmp_path):
    server.script = ["ok", 400]
    server.reply = lambda body: "bad"
    answers = ask_all(requests(1, lambda text: "it is bad"), settings(server), tmp_path, "test")
    reason = answers.rejects[0]["reason"]
    assert reason == "it is bad; asked again: the endpoint refused the request (status 400: no: [the key])"
    with pytest.raises(ExpertError, match="test: none of 1 answers can be used; one ended with 'bad'"):
        answers.check_some("test")


def error(status: int, words: object) -> tuple[int, dict]:
    return status, {"error": {"message": words}}


def nested(depth: int) -> bytes:
    return b'{"error":' * depth + b'"x"' + b"}" * depth


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(402, "insufficient balance"), "wants to be paid (status 402: insufficient balance)"),
        (error(403, "content blocked"), "denies it (status 403: content blocked)"),
        (error(404, "model m is retired"), "model m is retired"),
        (
            error(401, f"bad key {SECRET}"),
            "refuses the key in EXPERT_API_KEY (status 401: bad key [the key])",
        ),
        (
            (200, {"error": {"message": "overloaded", "code": "529"}}),
            "after 1 retries (status 529: overloaded)",
        ),
        ((429, {"detail": [{"msg": "quota spent"}]}), "after 1 retries (status 429: quota spent)"),
        (
            (200, {"error": {"message": "overloaded", "code": 503}}),
            "after 1 retries (status 503: overloaded)",
        ),
        ((200, {"error": {"message": "no credit", "code": 402}}), "wants to be paid (status 402: no credit)"),
        (error(404, "gone\x1b[2J\u202e" + "x" * 900), "status 404: gone[2Jxxx"),
    ],
)
def test_what_ends_the_asking_is_told_in_the_endpoint_s_words(server, tmp_path, answer, said):
    server.script = [answer] * 10
    with pytest.raises(ExpertError) as caught:
        ask_all(requests(1), settings(server, retries=1), tmp_path, "test")
    assert said in str(caught.value) and "\x1b" not in str(caught.value) and len(str(caught.value)) < 600
    assert SECRET not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (error(400, "use 'max_completion_tokens' instead"), "set limit_name of expert.endpoints"),
        (error(400, "temperature must be 1"), "temperature must be 1); expert.temperature=null sends none"),
        (error(422, "too long"), "(status 422: too long)"),
        (error(413, "too much"), "(status 413: too much)"),
        (error(451, "by law"), "(status 451: by law)"),
        ((200, {"error": {"message": "odd", "code": 10**30}}), "odd"),
        ((200, nested(900)), "nested too deep"),
        ((200, {"error": "input rejected"}), "input rejected"),
        ((200, {"choices": []}), "it sent no choices"),
        ({"message": {"content": ""}, "finish_reason": "stop"}, "it sent no text"),
        ({"message": {"content": "a", "role": "x"}, "finish_reason": "content_filter"}, "content filter"),
        ({"message": {"content": None, "refusal": "I will not."}}, "I will not."),
    ],
)
def test_a_refusal_is_no_answer_and_is_asked_again_by_the_next_run(server, tmp_path, answer, said):
    server.script = ["ok", answer]
    first = ask_all(requests(2), settings(server, concurrency=1), tmp_path, "test")
    assert said in first.rejects[0]["reason"] and len(first.texts) == 1
    second = ask_all(requests(2), settings(server, concurrency=1), tmp_path, "test")
    assert (second.cached, second.asked, len(second.texts), second.rejects) == (1, 1, 2, [])


def test_a_refusal_that_an_older_version_kept_is_asked_again(server, tmp_path):
    ask_all(requests(1), settings(server), tmp_path, "test")
    (path,) = tmp_path.glob("*/*.json")
    for broken in ('{"refused": "the endpoint refused the request (status 400)"}', "", '{"text": nu', "[]"):
        path.write_text(broken)
        assert ask_all(requests(1), settings(server), tmp_path, "test").asked == 1


def test_an_endpoint_that_only_refuses_is_not_asked_a_thousand_times(server, tmp_path):
    server.script = [error(400, "unknown field")] * 1000
    with pytest.raises(ExpertError, match=r"refused the first 5 requests, .*status 400: unknown field"):
        ask_all(requests(1000), settings(server, concurrency=1), tmp_path, "test")
    assert len(server.bodies) <= 6  # the next may be on its way


@pytest.mark.parametrize("empty", [{}, [], "", False, 0])
def test_an_answer_beside_an_empty_error_is_an_answer(server, tmp_path, empty):
    server.script = [(200, {"error": empty, "choices": [{"index": 0, "message": {"content": "fine"}}]})]
    assert ask_all(requests(1), settings(server), tmp_path, "test").texts == {"r0": ("one", "fine")}


def test_json_that_is_nested_too_deep_to_be_read_is_none(server, tmp_path):
    server.script = [(200, nested(20_000))] * 4
    with pytest.raises(ExpertError, match="answers with no JSON instead of a chat completion"):
        ask_all(requests(1), settings(server, retries=1), tmp_path, "test")


DICT = "{'last_emotions': {'joy': 1}, 'my_emotions': {'joy': 1}, 'my_output': 'Hi'}"


@pytest.mark.parametrize(
    "message",
    [
        {"reasoning_content": "Bob sounds angry.", "content": DICT},
        {"reasoning": "Bob sounds angry.", "content": [{"type": "text", "text": DICT}]},
        {"content": [{"type": "thinking", "thinking": "Bob sounds angry."}, {"type": "text", "text": DICT}]},
        {"reasoning_content": "<think>Bob sounds angry.</think>", "content": f"\n\n{DICT}"},
        {"reasoning_content": "another", "content": f"<think>Bob sounds angry.</think>\n{DICT}"},
        {"reasoning_content": None, "content": ["<think>Bob sounds angry.</think>\n", DICT]},
    ],
)
def test_all_of_an_answer_is_read(server, tmp_path, message):
    server.script = [{"message": {"role": "assistant", **message}}]
    answers = ask_all(requests(1), settings(server), tmp_path, "test")
    assert answers.texts == {"r0": ("one", f"<think>Bob sounds angry.</think>\n{DICT}")}


def test_an_answer_that_was_cut_is_asked_for_with_more_room_up_to_the_cap(server, tmp_path):
    cut = {"message": {"content": None, "reasoning_content": "Hm, I"}, "finish_reason": "length"}
    check = lambda text: None if text == "fine" else "it lacks a dictionary"  # noqa: E731
    server.script = [cut, cut]
    asked = settings(server, max_tokens_cap=1000)
    answers = ask_all(requests(1, check), asked, tmp_path / "a", "test")
    assert answers.texts == {"r0": ("one", "fine")}
    assert [body["max_tokens"] for body in server.bodies] == [100, 400, 1000]
    again = ask_all(requests(1, check), asked, tmp_path / "a", "test")
    assert (again.asked, again.texts) == (0, answers.texts)
    server.script = [cut] * 100
    (reject,) = ask_all(requests(1, check), asked, tmp_path / "b", "test").rejects
    assert reject["reason"] == "it was cut at expert.max_tokens_cap=1000, and it lacks a dictionary"
    server.script = [cut, (400, {"error": {"message": "longer than the model"}})]
    (reject,) = ask_all(requests(1, check), settings(server, reasks=0), tmp_path / "d", "test").rejects
    assert "cut at expert.max_tokens=100" in reject["reason"] and "longer than the model" in reject["reason"]
    server.script = [cut] * 100
    small = settings(server, max_tokens_cap=100, reasks=0)
    (reject,) = ask_all(requests(1, check), small, tmp_path / "c", "test").rejects
    assert "cut at expert.max_tokens=100" in reject["reason"]


def test_an_endpoint_is_told_what_it_calls_the_limit_and_no_temperature(server, tmp_path):
    endpoint = Endpoint("one", server.url, "m", "EXPERT_API_KEY", limit_name="max_completion_tokens")
    ask_all(requests(1), settings(server, endpoints=(endpoint,), temperature=None), tmp_path, "test")
    (body,) = server.bodies
    assert body["max_completion_tokens"] == 100 and not {"max_tokens", "temperature"} & body.keys()


def test_half_a_character_in_an_answer_can_be_kept(server, tmp_path):
    server.reply = lambda body: "fine \ud83d"
    (reject,) = ask_all(requests(1, lambda text: f"no {text}"), settings(server), tmp_path / "a", "t").rejects
    assert reject["answer"] == "fine \ufffd"


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
        "endpoints": [{"name": "x", "base_url": "http://u", "model": "m", "key": "NO_SUCH_KEY"}],
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


GOOD = {"name": "x", "base_url": "http://h/v1", "model": "m", "key": "EXPERT_API_KEY"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"concurrency": 0}, "expert.concurrency=0 must be a whole number from 1 to 10000"),
        ({"concurrency": True}, "expert.concurrency=True must be"),
        ({"timeout": 0}, "expert.timeout=0 must be a number above 0"),
        ({"timeout": "soon"}, "expert.timeout='soon' must be a number"),
        ({"retries": -1}, "expert.retries=-1 must be"),
        ({"max_tokens": None}, "expert.max_tokens=null must be a whole number, at least 1"),
        ({"temperature": float("nan")}, "expert.temperature=nan must be a number from 0 to 2"),
        ({"temperature": 10**400}, "is no number to work with"),
        ({"max_cost": 10**400}, "is no number to work with"),
        ({"max_tokens": 10**400}, "is no number to work with"),
        ({"endpoints": [GOOD | {"base_url": "h/v1"}]}, "base_url must be an address that begins with http"),
        ({"endpoints": [GOOD | {"base_url": f"ftp://u:{SECRET}@h"}]}, "base_url must be an address"),
        ({"endpoints": [GOOD | {"base_url": "http://h/v1\n"}]}, "without white space"),
        ({"endpoints": [GOOD | {"base_url": "http://h/\uff56\uff11"}]}, "base_url must be an address"),
        ({"max_tokns": 5}, "there is no setting expert.max_tokns; expert.max_tokens is near"),
        ({"endpoints": [GOOD | {"prize": 1}]}, "there is no setting expert.endpoints.0.prize"),
        ({"endpoints": [GOOD | {"prompt_price": -1}]}, "expert.endpoints.0.prompt_price=-1 must be a number"),
        ({"endpoints": [GOOD | {"limit_name": "tokens"}]}, "max_tokens or max_completion_tokens"),
        ({"endpoints": [GOOD, GOOD]}, "the same name twice: x, x"),
        ({"endpoints": ["http://h/v1"]}, "expert.endpoints.0='http://h/v1' must be settings by name"),
        ({"endpoints": "http://h/v1"}, "expert.endpoints='http://h/v1' must be"),
        ({"max_cost": 0.01}, "expert.max_cost=0.01 needs prices, and x has none"),
        ({"endpoints": [GOOD | {"key": SECRET}]}, "must be the name of the environment variable"),
    ],
)
def test_settings_of_experts_that_are_refused_in_words(change, said):
    with pytest.raises(ExpertError) as caught:
        Settings.of({"kind": "endpoint", "endpoints": [GOOD]} | change)
    assert said in str(caught.value) and SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "key", [f'"{SECRET}"', f"{SECRET}\n", f"{SECRET}\u2026", "Bearer x", " ", f"\ufeff{SECRET}"]
)
def test_a_key_that_can_be_none_is_refused_by_the_name_of_its_variable(monkeypatch, key):
    monkeypatch.setenv("EXPERT_API_KEY", key)
    with pytest.raises(ExpertError, match="the key in EXPERT_API_KEY has") as caught:
        Settings.of({"kind": "endpoint", "endpoints": [GOOD]})
    assert SECRET not in str(caught.value)


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
        ('Analysis. {{"Ann": "A friendly woman.", "Theme": "A quarrel."}}', None),
        ("{{{'Ann': 'x', 'Theme': 'y'}}}", None),
        ("{'Ann': 'a', 'Theme': 'b'} and no {others}", None),
        ('{"Ann": "x", "Ann": "y", "Theme": "z"}', "names 'Ann' twice"),
        ("{('Ann',): 'x', 'Theme': 'y'}", "keys of the dictionary must be text"),
        ("{['Ann']: 'x', 'Theme': 'y'}", "ends with no dictionary"),
        ("{" * 50_000 + "x" + "}" * 50_000, "ends with no dictionary"),
        ("{'a': " * 20_000, "ends with no dictionary"),
        ("{'Ann': " + "9" * 5_000 + "}", "ends with no dictionary"),
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
