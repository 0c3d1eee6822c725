"""The chat page's server: what it offers, and what it refuses before any model is asked."""

from __future__ import annotations

import json
import socket

import pytest
from omegaconf import OmegaConf

from data_prep.rows import write_rows
from recipe.models import tiny
from recipe.pages import chat
from rewards.labels import known_corpora
from tests.unit.composed import composed
from tests.unit.expert_server import Server


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat") / "model"
    tiny.make_tiny(["Alex: I lost my keys again.", "You are Mira. Labels: neutral."], folder, 1)
    config = composed("hardware=cpu", "data.max_prompt_length=160")
    return chat.Checkpoint("tiny", str(folder), config, [{"name": "Mira", "profile": "Plain-spoken."}])


@pytest.fixture(scope="module")
def client(checkpoint):
    from fastapi.testclient import TestClient

    app = chat.application([checkpoint], ["http://127.0.0.1:9/v1"])  # nobody answers there
    return TestClient(app, base_url="http://127.0.0.1")


def question(**changes) -> dict:
    return {
        "checkpoint": 0,
        "corpus": "meld",
        "persona": {"name": "Mira", "profile": "Plain-spoken."},
        "context": [{"speaker": "Alex", "text": "I lost my keys again."}],
    } | changes


def test_the_page_and_its_choices(client):
    assert "Talk with a persona" in client.get("/").text
    assert client.get("/choices").json() == {
        "checkpoints": ["tiny"],
        "corpora": {name: list(labels) for name, labels in known_corpora().items()},
        "personas": [{"name": "Mira", "profile": "Plain-spoken."}],
    }


@pytest.mark.parametrize(
    "changes",
    [
        {"corpus": "daily"},
        {"checkpoint": 1},
        {"checkpoint": -1},
        {"context": []},
        {"context": [{"speaker": "Alex", "text": ""}]},
        {"persona": {"name": "", "profile": ""}},
    ],
)
def test_what_cannot_be_answered_is_refused(client, changes):
    assert client.post("/answer", json=question(**changes)).status_code == 422


def test_a_line_that_is_too_long_is_refused_with_its_length(client):
    long = [{"speaker": "Alex", "text": "again " * 300}]
    answer = client.post("/answer", json=question(context=long))
    assert answer.status_code == 422 and "data.max_prompt_length=160" in answer.json()["detail"]


def test_old_utterances_make_room(checkpoint):
    turns = [{"speaker": "Alex", "text": f"I lost my keys again {i}."} for i in range(40)]
    asked = chat.Question(**question(context=turns))
    prompt = chat.fitted_prompt(asked, checkpoint)[1]["content"]
    assert "again 39." in prompt and "again 0." not in prompt


READS = (
    "<think>x</think>{'last_emotions': {'joy': 0.75, 'fear': 0.25}, "
    "'my_emotions': {'joy': 1}, 'my_output': 'a'}"
)


@pytest.fixture
def pasting(checkpoint):
    """Pastes a text; the model's server is a real one, whose answers are not a model's."""
    from fastapi.testclient import TestClient

    server = Server()
    server.reply = lambda body: (
        "no rule" if "Oh no." in body["messages"][1]["content"].splitlines()[-2] else READS
    )
    page = TestClient(chat.application([checkpoint], [server.url]), base_url="http://127.0.0.1")

    def paste(text: str, labels: str = "", number: int = 0):
        answer = page.post("/annotate", json={"checkpoint": number, "labels": labels, "text": text})
        if answer.status_code != 200:
            return answer.status_code, answer.json()["detail"]
        return [json.loads(line) for line in answer.text.splitlines()]

    paste.server = server
    yield paste
    server.http.shutdown()
    server.http.server_close()


def test_pasted_text_is_read_as_make_annotate_reads_it(pasting):
    first, second = pasting("Ann: I won!\nBob: Oh no.\n\nCyd: Hi.\n")
    ann, bob = first["dialogue"]
    assert (ann["speaker"], ann["text"], ann["line"]) == ("Ann", "I won!", 1)
    assert (ann["emotion"], ann["emotions"], ann["problem"]) == ("joy", {"joy": 0.75, "fear": 0.25}, None)
    assert (bob["emotion"], bob["problem"]) == (None, "no_think")
    assert [(one["speaker"], one["dialogue_id"]) for one in second["dialogue"]] == [("Cyd", "2")]
    asked = [body["messages"][1]["content"] for body in pasting.server.bodies]
    assert sum("Ann: I won!\nBob: Oh no." in prompt for prompt in asked) == 1 and len(asked) == 3
    assert {body["temperature"] for body in pasting.server.bodies} == {0.0}


def test_pasted_text_has_labels_of_its_own_and_lines_that_do_not_fit(pasting):
    (found,) = pasting("so calm\n" + "again " * 300, labels="calm, worried")
    calm, long = found["dialogue"]
    assert (calm["speaker"], calm["problem"]) == ("Speaker", "bad_label")  # the model says joy
    assert (long["problem"], long["answers"]) == ("too_long", [])
    assert "calm, worried" in pasting.server.bodies[0]["messages"][0]["content"]


@pytest.mark.parametrize(
    ("text", "labels", "said"),
    [
        ("Ann: Hi.\nhow are you", "", "line 2: no `Name: ` before what is said, as the first line has"),
        (" \n\n", "", "there is no line with anything in it"),
        ("hi", "calm", "LABELS='calm' is one word and no corpus"),
        ("hi\n" * 501, "", "501 lines; up to 500 are read here"),
    ],
)
def test_pasted_text_that_cannot_be_read_is_told_with_its_line(pasting, text, labels, said):
    status, detail = pasting(text, labels)
    assert status == 422 and said in detail and "pasted.txt" not in detail
    assert pasting.server.bodies == []
    assert pasting(text, labels, number=1)[0] == 422


def test_a_server_that_fails_while_text_is_read_is_said(client):
    answer = client.post("/annotate", json={"checkpoint": 0, "labels": "", "text": "hi"})
    assert answer.status_code == 200 and "the model's server failed" in answer.json()["error"]


def test_a_server_that_is_gone_is_said_on_the_page(client):
    answer = client.post("/answer", json=question())
    assert answer.status_code == 200 and "the model's server failed" in answer.text


def test_another_sites_name_for_this_machine_is_refused(client):
    assert client.get("/choices", headers={"host": "evil.example"}).status_code == 400


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1.evil.example", "http://[::1"]
)
def test_a_page_of_another_site_may_not_ask(client, origin):
    answer = client.post("/answer", json=question(), headers={"origin": origin})
    assert answer.status_code == 403
    own = {"origin": "http://localhost:7860"}
    assert client.post("/answer", json=question(corpus="no"), headers=own).status_code == 422


def test_a_body_without_end_is_not_read(client):
    def chunks():
        for _ in range(100):
            yield b" " * 100_000

    assert client.post("/answer", content=chunks()).status_code == 413
    assert client.post("/answer", content=b"{" * 4_000_001).status_code == 413


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(question(checkpoint=float("nan"))),
        json.dumps(question(checkpoint=float("inf"))),
        json.dumps(question(corpus="\ud83d")),
        json.dumps(question(context=[{"speaker": "Alex", "text": "Hi \udc00"}])),
        json.dumps(question(persona={"name": "\ud83d", "profile": ""})),
        json.dumps(question(corpus=["\ud83d", float("nan")])),
        "[" * 100_000,
        "{",
        "9" * 5000,
        "null",
        "",
    ],
)
def test_what_json_cannot_say_is_refused_and_breaks_nothing(client, body):
    answer = client.post("/answer", content=body, headers={"content-type": "application/json"})
    assert answer.status_code in (400, 422) and answer.json()["detail"]


def test_a_server_gets_its_key_by_the_environment_and_no_origin(monkeypatch, checkpoint, tmp_path):
    from recipe.models import serve

    started = []

    class Process:
        def __init__(self, command, env, **_):
            started.append((command, env))

        def terminate(self): ...

        def wait(self): ...

    monkeypatch.setattr(serve.subprocess, "Popen", Process)
    monkeypatch.setattr(serve, "_wait_until_ready", lambda *_: None)
    with serve.served("m", checkpoint.config, tmp_path / "log", "a-random-key"):
        pass
    ((command, env),) = started
    assert env["VLLM_API_KEY"] == "a-random-key" and "a-random-key" not in command
    assert command[command.index("--allowed-origins") + 1] == "[]"
    assert command[command.index("--host") + 1] == "127.0.0.1"


def test_a_runs_last_checkpoint_is_the_one_to_talk_to(tmp_path, checkpoint):
    run = tmp_path / "mine"
    for step in ("iter_0/sft/model", "iter_1/rl/model", "iter_2/rl/model", "data"):
        (run / step).mkdir(parents=True)
    write_rows([], run / "data/test.parquet")
    OmegaConf.save(checkpoint.config, run / "config.yaml")
    (run / "state.json").write_text("{}")
    assert chat.from_run(str(run)).path == str(run / "iter_2/rl/model")
    assert chat.from_run(f"{run}:cold").name == "mine:cold"
    with pytest.raises(ValueError, match="no checkpoint 'retrained'; choose one of cold, rl_1, rl_2"):
        chat.from_run(f"{run}:retrained")
    with pytest.raises(ValueError, match="no run, there is no state.json"):
        chat.from_run(str(tmp_path))


def test_the_tiny_model_has_no_weights_before_a_run():
    with pytest.raises(ValueError, match="made by a run"):
        chat.from_model("tiny")


def test_a_port_that_cannot_be_had_is_named_before_a_model_is_loaded():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"cannot listen on port {port} .*PORT=... names another"):
            chat._check_port(port)
    chat._check_port(port)
    with pytest.raises(ValueError, match="cannot listen on port 99999"):
        chat._check_port(99999)
