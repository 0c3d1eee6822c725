"""`make publish`: what is written, what others can do with it, what is refused, and what reaches the hub."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import sys

import huggingface_hub.constants
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from recipe import publish
from recipe.pages.report import write_report
from recipe.publishing import mark
from recipe.publishing.evidence import evidence_of
from recipe.run.lock import LockedError
from tests.unit.finished_run import make_finished_run
from tests.unit.hub_writes import WritableHub, blob

TOKEN = "right-token"


@pytest.fixture(scope="module")
def made(tmp_path_factory, tokenizer_folder):
    return make_finished_run(tmp_path_factory.mktemp("made") / "runs/fine", tokenizer_folder)


@pytest.fixture(scope="module")
def evidence():
    """What cards say of a checkpoint, found once for all tests: it takes longest."""
    found = {}
    return lambda run: found.get(run.stage) or found.setdefault(run.stage, evidence_of(run))


@pytest.fixture
def run(made, tmp_path, monkeypatch, evidence):
    """A copy of the run, in the ``runs`` of the folder that one is in."""
    monkeypatch.setattr("recipe.publishing.evidence.evidence_of", evidence)
    shutil.copytree(made, tmp_path / "runs/fine")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    return tmp_path / "runs/fine"


@pytest.fixture
def server(monkeypatch):
    server = WritableHub()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda _: None)
    for handler in logging.getLogger("huggingface_hub").handlers:  # of the test in which it was imported
        monkeypatch.setattr(handler, "stream", io.StringIO())
    yield server
    server.close()


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command; gives what it said, and its one line of complaint."""

    def run(*arguments: str, status: int = 0) -> str:
        monkeypatch.setattr(sys, "argv", ["publish", *arguments])
        capsys.readouterr()
        assert publish.main() == status
        said = capsys.readouterr()
        assert TOKEN not in said.out + said.err
        if status:
            (line,) = [line for line in said.err.splitlines() if line.startswith("error: ")]
            assert said.err.splitlines() == [line]
            return line
        return said.out

    return run


# ---- the folder ----


def test_a_dry_run_writes_a_model_that_plain_transformers_loads(run, command, monkeypatch):
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a dry run asks nobody"))
    said = command("fine")
    folder = run / "publish/model"
    assert "make publish RUN=fine REPO=owner/name PUSH=1" in said and "nothing is pushed" in said
    assert {f"{path.name}" for path in folder.iterdir()} == {
        "README.md", "chat_template.jinja", "config.json", "generation_config.json", "model.safetensors",
        "predictions", "self_emo.json", "tokenizer.json", "tokenizer_config.json",
    }  # fmt: skip
    scored = run / "eval/retrained/predictions"  # of made-up dialogues, so that nothing is left out
    for corpus in ("meld", "iemocap", "emorynlp"):
        name = f"{corpus}.parquet"
        assert pq.read_table(folder / "predictions" / name).equals(pq.read_table(scored / name))
    assert all(path.name in said for path in folder.iterdir())
    model = AutoModelForCausalLM.from_pretrained(folder)
    # The checkpoint's own config.json names another type, and kernels that this machine does not have.
    trained = AutoModelForCausalLM.from_pretrained(
        run / "iter_2/sft/model", dtype="float32", attn_implementation="eager"
    )
    pairs = zip(model.state_dict().items(), trained.state_dict().items(), strict=True)
    assert all(a == b and torch.equal(x, y) and x.dtype == torch.float32 for (a, x), (b, y) in pairs)
    assert GenerationConfig.from_pretrained(folder).do_sample is False
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.chat_template == (run / "iter_2/sft/model/chat_template.jinja").read_text()
    texts = "".join(p.read_text() for p in folder.iterdir() if p.suffix in (".json", ".md", ".jinja"))
    assert str(run.parent) not in texts and "/home/somebody" not in texts


def test_the_card_s_example_runs_as_it_stands(run, command, capsys):
    command("fine")
    card = (run / "publish/model/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", card, re.S)
    assert '"path/to/this/folder"' in code
    torch.manual_seed(1)
    exec(code.replace("path/to/this/folder", str(run / "publish/model")).replace("**prompt)", "**prompt, max_new_tokens=3)"), {})  # noqa: E501  # fmt: skip


def test_the_card_says_what_the_page_says(run, command):
    command("fine:rl", "--repo", "me/emo")
    text = (run / "publish/model/README.md").read_text()
    _, front, body = text.split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["license"] == "apache-2.0" and "base_model" not in metadata
    summary = json.loads((run / "eval/rl/summary.json").read_text())
    values = {
        (result["dataset"]["type"], metric["name"]): metric["value"]
        for result in metadata["model-index"][0]["results"]
        for metric in result["metrics"]
    }
    assert values["self-emo-samples-meld", "Weighted F1"] == round(summary["meld"]["weighted_f1"], 4)
    (row,) = [line for line in body.splitlines() if line.startswith("| **after RL** (this one)")]
    page = re.sub(r"<[^>]+>", " ", write_report(run).read_text())
    cells = [cell.strip() for cell in row.split("|")[2:-1]]
    accuracy, interval = re.match(r"([\d.]+) \((.*)\)", cells[0]).groups()
    assert accuracy == f"{summary['avg']['accuracy']:.3f}"
    low, high = map(float, interval.split(" to "))
    assert low <= summary["avg"]["accuracy"] <= high
    assert f"{low:.2f} to {high:.2f}" in page
    for phrase in (
        "majority class",
        "TF-IDF",
        "tiny model",
        "made up",
        "arXiv:2604.18003",
        "Circularity",
        "One seed",
    ):
        assert phrase in body, phrase
    alarms = json.loads((run / "eval/alarms.json").read_text())
    assert f"{len(alarms)} alarm" in body if alarms else "No alarm" in body
    assert all(alarm["text"].split(" accuracy")[0].replace("_", "\\_") in body for alarm in alarms)


def test_a_folder_is_written_anew_but_nobody_s_work(run, command):
    command("fine")
    first = (run / "publish/model/self_emo.json").read_text()
    command("fine:cold")
    assert json.loads((run / "publish/model/self_emo.json").read_text())["stage"] == "cold"
    command("fine")
    assert (run / "publish/model/self_emo.json").read_text() == first
    (run / "publish/model/README.md").write_text("mine")
    assert "README.md was changed after it was written" in command("fine", status=1)
    assert (run / "publish/model/README.md").read_text() == "mine"
    assert [path.name for path in (run / "publish").iterdir()] == ["model"]


def test_a_full_disk_leaves_the_folder_that_was_there(run, command, monkeypatch):
    command("fine")
    before = (run / "publish/model/self_emo.json").read_bytes()
    monkeypatch.setattr(mark, "write", lambda *_: (_ for _ in ()).throw(OSError(28, "No space", "x")))
    assert "No space left on device" in command("fine:cold", status=1)
    assert (run / "publish/model/self_emo.json").read_bytes() == before
    assert [path.name for path in (run / "publish").iterdir()] == ["model"]


# ---- what is refused ----


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["none"], "no run"),
        (["fine:rl_7"], "there is no checkpoint 'rl_7'"),
        (["fine", "--repo", "emo"], "REPO='emo' is no id of the hub; write it as owner/name"),
        (["fine", "--repo", "a/b/c"], "REPO='a/b/c' is no id"),
        (["fine", "--repo", "me/emo", "--dataset", "me/--x"], "DATASET='me/--x' is no id"),
        (["fine", "--repo", "https://host/me"], "is no id of the hub"),
        (["fine", "--push"], "REPO=owner/name"),
        (["fine", "--repo", "me/emo", "--push"], "HF_TOKEN is not set"),
    ],
)
def test_a_request_that_makes_no_sense_is_one_line(run, command, arguments, told):
    assert told in command(*arguments, status=1)
    assert not (run / "publish").exists()


def unfinished(run):
    shutil.rmtree(run / "iter_2/sft")


def unscored(run):
    shutil.rmtree(run / "eval/retrained")


def without_template(run):
    (run / "iter_2/sft/model/chat_template.jinja").unlink()
    path = run / "iter_2/sft/model/tokenizer_config.json"
    path.write_text(
        json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "chat_template"})
    )


def cut(run):
    path = run / "iter_2/sft/model/model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])


def changed(run):
    from recipe.run import manifest

    manifest.write(run / "iter_2/sft", run, "iter_2/sft", [], {"seconds": 1.0, "finished": 1.0})
    path = run / "iter_2/sft/model/model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def with_code(run):
    path = run / "iter_2/sft/model/config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoModel": "x.Y"}}))


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (unfinished, "is unfinished: it has no checkpoint retrained_2 yet; go on with it"),
        (unscored, "is unfinished: no score yet for retrained_1, retrained_2"),
        (without_template, "has no chat template; copy the base model's tokenizer files there"),
        (cut, "are not whole; restore it"),
        (changed, "its content has changed since its step left it; restore it from a copy"),
        (with_code, "asks for code of the model's own"),
    ],
)
def test_a_run_that_cannot_be_handed_on_is_one_line(run, command, server, damage, told):
    damage(run)
    assert told in command("fine", "--repo", "me/emo", "--push", status=1)
    assert not list(run.glob("publish/*")) and server.asked == []


# ---- the hub ----


def test_a_push_is_one_commit_and_the_repository_the_folder(run, command, server):
    said = command("fine", "--repo", "me/emo", "--dataset", "me/emo-b", "--push")
    assert f"{server.url}/me/emo is pushed" in said and f"{server.url}/datasets/me/emo-b is pushed" in said
    for kind, repo in (("model", "me/emo"), ("dataset", "me/emo-b")):
        commits = server.repos[kind, repo]
        assert len(commits) == 2 and "fine" in commits[1]["summary"]  # the first is the hub's own
        folder = run / "publish" / kind
        there = {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
        assert {k: v for k, v in commits[1]["files"].items() if k != ".gitattributes"} == there
    assert server.private == {"me/emo", "me/emo-b"}
    written = [p for p in run.rglob("*") if p.is_file() and TOKEN.encode() in p.read_bytes()]
    assert written == []


def test_the_same_again_makes_no_commit_and_another_checkpoint_one(run, command, server):
    command("fine", "--repo", "me/emo", "--push")
    assert "was there already, unchanged" in command("fine", "--repo", "me/emo", "--push")
    assert len(server.repos["model", "me/emo"]) == 2
    command("fine:cold", "--repo", "me/emo", "--push")
    assert len(server.repos["model", "me/emo"]) == 3
    assert json.loads(server.files("model", "me/emo")["self_emo.json"])["stage"] == "cold"


def test_what_the_older_push_had_more_of_goes(run, command, server):
    command("fine", "--repo", "me/emo", "--push")
    files = server.files("model", "me/emo")
    files["merges.txt"] = b"older"
    known = json.loads(files["self_emo.json"])
    known["files"]["merges.txt"] = {"sha256": "x", "git": blob(b"older")}
    files["self_emo.json"] = json.dumps(known).encode()
    command("fine", "--repo", "me/emo", "--push")
    assert "merges.txt" not in server.files("model", "me/emo")
    assert len(server.repos["model", "me/emo"]) == 3


def somebody_elses(server, run, command):
    server.commit("model", "me/emo", {"README.md": b"mine"})


def another_runs(server, run, command):
    command("fine", "--repo", "me/emo", "--push")
    path = run / "state.json"
    state = json.loads(path.read_text())
    state["steps"]["data"]["finished"] = 77.0
    path.write_text(json.dumps(state))
    shutil.rmtree(run / "publish")


def edited(server, run, command):
    command("fine", "--repo", "me/emo", "--push")
    server.commit("model", "me/emo", server.files("model", "me/emo") | {"README.md": b"better"})


def with_a_broken_mark(server, run, command):
    server.commit("model", "me/emo", {"self_emo.json": b"{"})


def renamed(server, run, command):
    server.commit("model", "me/newer", {})
    server.renamed["me/emo"] = "me/newer"


@pytest.mark.parametrize(
    ("there", "told"),
    [
        (somebody_elses, "holds 1 files that this command has not pushed; name another repository"),
        (another_runs, "is of another run; name another repository"),
        (edited, r"was changed on the hub since it was pushed \(README.md\)"),
        (with_a_broken_mark, "its self_emo.json is none of ours"),
        (renamed, "me/emo is called me/newer now"),
    ],
)
def test_other_content_is_never_written_over(run, command, server, there, told):
    there(server, run, command)
    before = {key: len(commits) for key, commits in server.repos.items()}
    line = command("fine", "--repo", "me/emo", "--dataset", "me/emo-b", "--push", status=1)
    assert re.search(told, line) and "nothing is pushed" in line
    assert {key: len(commits) for key, commits in server.repos.items()} == before


@pytest.mark.parametrize(
    ("token", "repo", "told"),
    [
        ("wrong-token", "me/emo", "the hub does not accept HF_TOKEN (401)"),
        ("reading", "me/emo", "may only read"),
        (TOKEN, "you/emo", "no right to write there (403; the hub says: no rights in this namespace); name"),
        (TOKEN, "you/open", "HF_TOKEN has no right to write there (403; the hub says: no rights"),
        (TOKEN, "you/closed", "(403; "),
    ],
)
def test_a_token_without_rights_pushes_nothing(run, command, server, monkeypatch, token, repo, told):
    server.users["reading"] = {"name": "me", "role": "read"}
    server.commit("model", "you/open", {".gitattributes": b""})
    server.commit("model", "you/closed", {".gitattributes": b""})
    server.private.add("you/closed")
    monkeypatch.setenv("HF_TOKEN", token)
    line = command("fine", "--repo", repo, "--dataset", "me/emo-b", "--push", status=1)
    assert told in line and "nothing is pushed" in line and token not in line
    assert all(len(commits) == 1 for commits in server.repos.values())


@pytest.mark.parametrize("token", ["right\nsecret", "right secret", "s\xe9cret", "s\x7fecret"])
def test_what_can_be_no_token_is_not_shown(run, command, server, monkeypatch, token):
    monkeypatch.setenv("HF_TOKEN", token)
    line = command("fine", "--repo", "me/emo", "--push", status=1)
    assert "HF_TOKEN holds white space or signs that no token has" in line and "cret" not in line
    assert server.asked == []


@pytest.mark.parametrize("address", ["http://host:port", "localhost:99", "nonsense"])
def test_an_address_that_is_none_is_one_line(run, command, server, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    line = command("fine", "--repo", "me/emo", "--push", status=1)
    assert "HF_ENDPOINT" in line and "nothing is pushed" in line


@pytest.mark.parametrize(
    ("part", "status", "left"),
    [
        ("/preupload/", 500, "nothing is pushed"),
        ("/lfs/", 403, "nothing is pushed"),
        ("datasets/me/emo-b/commit/", 503, "nothing is pushed"),
        ("models/me/emo/commit/", 503, "me/emo-b is pushed whole, the rest not at all"),
    ],
)
def test_where_the_hub_fails_nothing_is_pushed_in_part(run, command, server, part, status, left):
    server.failing[part] = status
    asked = ("fine", "--repo", "me/emo", "--dataset", "me/emo-b", "--push")
    assert left in command(*asked, status=1)
    assert {len(commits) for commits in server.repos.values()} <= {1, 2}
    for (kind, _), commits in server.repos.items():
        assert len(commits) == 1 or "self_emo.json" in commits[1]["files"], kind
    server.failing.clear()
    command(*asked)  # goes on
    assert [len(commits) for commits in server.repos.values()] == [2, 2]


def test_a_repository_that_changes_meanwhile_is_left_alone(run, command, server):
    server.before_commit = lambda: server.commit("model", "me/emo", {"README.md": b"mine"})
    assert "(412)" in command("fine", "--repo", "me/emo", "--push", status=1)
    assert server.files("model", "me/emo") == {"README.md": b"mine"}


def test_nobody_writes_the_folder_anew_while_it_is_pushed(run, command, server):
    def meanwhile():
        with pytest.raises(LockedError, match="works on this run"):
            publish.publish("fine:cold")
        seen.append(True)

    seen = []
    server.before_commit = meanwhile
    command("fine", "--repo", "me/emo", "--push")
    assert seen == [True]
    assert json.loads(server.files("model", "me/emo")["self_emo.json"])["stage"] == "retrained_2"


def test_no_network_is_one_line(run, command, server):
    server.close()
    assert "check the network (HF_ENDPOINT" in command("fine", "--repo", "me/emo", "--push", status=1)
