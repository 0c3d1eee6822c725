"""`make annotate` as a command: what it leaves, how it goes on, what it refuses before a model is loaded."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from data_prep.prompt import load_templates
from recipe import annotate
from recipe.annotation import checkpoint
from recipe.annotation.answer import answer_dialogues
from recipe.run import preflight
from recipe.run.run import Run
from tests.unit.composed import composed

pytestmark = pytest.mark.usefixtures("quick_compose")

ANSWERS = {
    "I won!": "<think>x</think>{'last_emotions': {'joy': 0.75, 'surprise': 0.25}, 'my_emotions': {'joy': 1}, "
    "'my_output': 'a'}",
    "<b>Oh</b> no": "no rule",
}
MINE = "text,speaker,dialogue_id,label\nI won!,Ann & Bob,a,joy\n<b>Oh</b> no,Cyd,a,anger\nI won!,Cyd,b,fear\n"


@pytest.fixture(scope="module")
def settings():
    """Of `run`."""
    config = composed("run.name=mine", "data.max_prompt_length=500")
    config.prompts.digest = load_templates("compact").digest
    return config


@pytest.fixture
def run(tmp_path, tokenizer_folder, settings) -> Path:
    """A run that was stopped after its cold start."""
    folder = tmp_path / "mine"
    shutil.copytree(tokenizer_folder, folder / "iter_0/sft/model")
    (folder / "iter_0/sft/model/model.safetensors").write_text("weights")
    OmegaConf.save(settings, folder / "config.yaml")
    (folder / "state.json").write_text("{}")
    return folder


@pytest.fixture
def command(tmp_path, tokenizer_folder, settings, monkeypatch, capsys):
    """Runs the command on a file; `ANSWERS` play the checkpoint, and the machine is not checked."""
    state = {"most": 99, "asked": []}

    def configured(model, run, overrides):
        assert (model, run) == (None, "mine")
        return (
            OmegaConf.merge(settings, OmegaConf.from_dotlist(overrides)),
            "mine:cold",
            str(tokenizer_folder),
        )

    def check(config, training):
        assert training is False and config.raw_dir is None and config.corpora is None
        folder = Path(config.run.root) / config.run.name
        folder.mkdir(parents=True)
        return folder

    @contextmanager
    def answering(config, model, sampling):
        assert model == str(tokenizer_folder)

        def answer(rows):
            if len(state["asked"]) >= state["most"]:
                raise KeyboardInterrupt
            texts = [row["extra_info"]["context"][-1]["text"] for row in rows]
            state["asked"] += texts
            yield {r["extra_info"]["row_id"]: [ANSWERS[t]] for r, t in zip(rows, texts, strict=True)}

        yield answer

    def in_a_stage(run: Run, task):
        config = run.config.copy()
        OmegaConf.set_struct(config, False)
        config.job = {"work": str(run.folder.parent), "progress": str(run.folder / "progress")}
        answer_dialogues(config, answering)

    monkeypatch.setattr(checkpoint, "configured", configured)
    monkeypatch.setattr(preflight, "check", check)
    monkeypatch.setattr(annotate, "in_a_stage", in_a_stage)

    def call(*more: str, out: str = "out", content: str = MINE, source: str = "mine.csv") -> int:
        (tmp_path / source).write_text(content)
        line = ["annotate", "--in", str(tmp_path / source), "--out", str(tmp_path / out), "--run", "mine"]
        monkeypatch.setattr(sys, "argv", [*line, *more])
        status = annotate.main()
        call.out, call.err = capsys.readouterr()
        return status

    call.state = state
    return call


def test_tables_and_page_of_a_file(command, tmp_path):
    assert command() == 0, command.err
    assert "3 utterances in 2 dialogues" in command.out and "no_think 1" in command.out
    assert "33.3% of the 3 labels" in command.out and "most answers" not in command.out
    out = tmp_path / "out"
    assert sorted(p.name for p in out.iterdir()) == [
        "about.json", "annotations.csv", "annotations.html", "annotations.jsonl"]  # fmt: skip
    assert not (tmp_path / "out.work").exists()
    lines = [json.loads(line) for line in (out / "annotations.jsonl").read_text().splitlines()]
    assert lines[0] == {
        "dialogue_id": "a", "utterance_id": "0", "line": 2, "speaker": "Ann & Bob", "text": "I won!",
        "label": "joy", "emotion": "joy", "emotions": {"joy": 0.75, "surprise": 0.25}, "problem": None,
        "answers": [ANSWERS["I won!"]],
    }  # fmt: skip
    with (out / "annotations.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["emotion"], row["problem"], row["weight_joy"], row["weight_fear"]) for row in rows] == [
        ("joy", "", "0.75", "0.0"), ("", "no_think", "", ""), ("joy", "", "0.75", "0.0")]  # fmt: skip
    assert rows[1]["answer"] == "no rule"
    page = (out / "annotations.html").read_text()
    assert page.count("<svg") == 2 and "<b>Oh</b>" not in page and "&lt;b&gt;Oh&lt;/b&gt; no" in page
    about = json.loads((out / "about.json").read_text())
    assert about["emotions"]["joy"] == 2 and about["checkpoint"] == "mine:cold"
    assert str(tmp_path) not in (out / "about.json").read_text()


def test_one_table_where_a_file_is_asked_for(command, tmp_path):
    assert command(out="there/x.csv") == 0, command.err
    assert sorted(p.name for p in (tmp_path / "there").iterdir()) == ["x.about.json", "x.csv", "x.html"]
    assert command(out="there/x.csv") == 0 and "is finished" in command.out


def test_the_same_line_goes_on_where_it_was_stopped(command, tmp_path):
    command.state["most"] = 1
    assert command("evaluate.batch_rows=2") == 130
    assert "the same command goes on" in command.out and not (tmp_path / "out").exists()
    assert command.state["asked"] == ["I won!", "<b>Oh</b> no"]
    command.state["most"] = 99
    assert command("evaluate.batch_rows=2", "--labels", "joy,anger,fear") == 1
    assert "holds answers to something else (other labels)" in command.err
    assert command("evaluate.batch_rows=2", content=MINE.replace("won", "WON")) == 1
    assert "(other file)" in command.err and not (tmp_path / "out").exists()
    assert command("evaluate.batch_rows=1") == 0, command.err
    assert command.state["asked"][2:] == ["I won!"], "the first dialogue was finished"
    assert len((tmp_path / "out/annotations.jsonl").read_text().splitlines()) == 3
    assert command() == 0 and "is finished" in command.out and len(command.state["asked"]) == 3


def test_what_is_there_is_not_overwritten(command, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    assert command() == 1 and "there already, and not of make annotate" in command.err
    (tmp_path / "page.html").write_text("mine")
    assert command(out="page.jsonl") == 1 and "there already" in command.err
    (tmp_path / "other.work").mkdir()
    (tmp_path / "other.work/thesis.txt").write_text("mine")
    assert command(out="other") == 1 and "other.work is there already" in command.err
    for path in ("out/thesis.txt", "page.html", "other.work/thesis.txt"):
        assert (tmp_path / path).read_text() == "mine"
    assert command(out="new") == 0
    assert command("evaluate.samples=3", out="new") == 1
    assert "made otherwise (other samples, temperature)" in command.err


def test_nothing_half_written_has_a_final_name(command, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device", "x")

    for out in ("out", "x.csv"):
        with monkeypatch.context() as patched:
            patched.setattr("recipe.annotation.tables.csv.writer", full)
            assert command(out=out) == 1
        assert "free some space" in command.err
        assert {p.name for p in tmp_path.iterdir()} == {"mine.csv", f"{out}.work"}
        assert command(out=out) == 0, command.err
        shutil.rmtree(tmp_path / out) if out == "out" else [p.unlink() for p in tmp_path.glob("x.*")]
    assert len(command.state["asked"]) == 6, "the answers were kept"


def test_a_check_that_fails_leaves_no_folder(command, tmp_path, monkeypatch):
    def check(config, training):
        raise preflight.PreflightError("too little memory")

    monkeypatch.setattr(preflight, "check", check)
    assert command() == 1 and command.err == "error: too little memory\n"
    assert not (tmp_path / "out.work").exists() and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--labels", "joy"], "is one word and no corpus"),
        (["--labels", "joy,,fear"], "'' is no label"),
        (["--labels", "joy,{fear"], "is no label"),
        (["--labels", "joy, Joy"], "'joy' and 'Joy' are the same"),
        (["--fields", "text"], "is not of the form"),
        (["--labels", "calm,tense"], "line 2: label 'joy' is not among calm, tense"),
    ],
)
def test_what_is_refused_before_anything_is_loaded(command, tmp_path, more, told):
    assert command(*more) == 1
    assert told in command.err and command.err.startswith("error: ") and command.err.count("\n") == 1
    assert command.state["asked"] == [] and not list(tmp_path.glob("out*"))


def test_all_that_the_command_line_shows_is_told_at_once(capsys, monkeypatch, tmp_path):
    words = ["--run", "typo", "--in", f"{tmp_path}/no.csv", "--out", "x.json", "--labels", "one"]
    monkeypatch.setattr(sys, "argv", ["annotate", *words, "--fields", "text"])
    assert annotate.main() == 1
    told = capsys.readouterr().err.splitlines()
    begins = [
        "error: OUT='x.json'", "FIELDS='text'", "runs/typo: no run", f"{tmp_path}/no.csv: no such file",
        "LABELS='one'",
    ]  # fmt: skip
    assert len(told) == len(begins)
    assert all(line.strip().startswith(begin) for line, begin in zip(told, begins, strict=True)), told


@pytest.mark.parametrize("out", ["x.json", "x.html", ".hidden", "a\tb"])
def test_outputs_that_are_not_written(command, out):
    assert command(out=out) == 1 and "OUT=" in command.err


def test_another_list_of_labels(command, tmp_path):
    assert command("--labels", "joy, sheer surprise ,surprise", "--fields", "label=") == 0, command.err
    with (tmp_path / "out/annotations.csv").open(newline="") as file:
        assert [n for n in next(csv.reader(file)) if n.startswith("weight_")] == [
            "weight_joy", "weight_sheer surprise", "weight_surprise"]  # fmt: skip
    assert command("--labels", "EmoryNLP", "--fields", "label=", out="other") == 0
    assert json.loads((tmp_path / "other/about.json").read_text())["of"]["labels"][0] == "Joyful"


# ---- which checkpoint ----


def test_a_run_s_checkpoint_is_asked_with_its_own_settings(run):
    config, name, model = checkpoint.configured(None, f"{run}:cold", ["evaluate.samples=4"])
    assert (name, model) == ("mine:cold", str(run / "iter_0/sft/model"))
    assert (config.prompts.dir, config.evaluate.samples, config.data.max_prompt_length) == ("compact", 4, 500)
    with pytest.raises(ValueError, match="no checkpoint 'rl'; choose one of cold"):
        checkpoint.configured(None, f"{run}:rl", [])
    with pytest.raises(ValueError, match="a run is scored with its own settings"):
        checkpoint.configured(None, str(run), ["data.max_response_length=9"])
    longer, *_ = checkpoint.configured(None, str(run), ["data.max_prompt_length=600"])
    assert longer.data.max_prompt_length == 600
    for model, name in ((None, None), ("SmolLM2-135M", str(run))):
        with pytest.raises(ValueError, match="name one: make annotate MODEL=... or make annotate RUN="):
            checkpoint.configured(model, name, [])


def test_a_run_of_before_a_setting_came_up_can_be_asked(run):
    config = OmegaConf.load(run / "config.yaml")
    del config.evaluate.train_rows, config.plan.step_seconds
    OmegaConf.save(config, run / "config.yaml")
    config, _, _ = checkpoint.configured(None, str(run), [])
    assert config.evaluate.train_rows == 256
    preflight.check_types(config)


def test_a_model_is_asked_as_by_make_eval():
    config, name, model = checkpoint.configured("SmolLM2-135M", None, ["hardware=cpu"])
    assert (name, model, config.prompts.dir) == ("SmolLM2-135M", None, "full")
    with pytest.raises(ValueError, match="made by a run"):
        checkpoint.configured("tiny", None, ["hardware=cpu"])


def test_the_labels_are_meld_s_or_those_of_the_run_s_only_corpus():
    assert checkpoint.default_labels(OmegaConf.create({"corpora": None})) == "meld"
    assert checkpoint.default_labels(OmegaConf.create({"corpora": ["emorynlp"]})) == "emorynlp"
    assert checkpoint.default_labels(OmegaConf.create({"corpora": ["emorynlp", "iemocap"]})) == "meld"


def test_experts_are_asked_once_about_every_dialogue(tmp_path, settings, tokenizer_folder, monkeypatch):
    from data_prep.own_dialogues.read import look_through
    from recipe.annotation import prompts
    from recipe.annotation.output import output_at
    from recipe.annotation.task import new_task
    from recipe.run import experts

    source = tmp_path / "mine.csv"
    source.write_text("text,dialogue_id\n" + "".join(f"I won!,{i}\n" for i in range(5)))
    config = OmegaConf.merge(settings, {"prompts": {"dir": "compact"}})
    run = Run(config, tmp_path / "out.work/run")
    run.folder.mkdir(parents=True)
    found = look_through(source, ("joy", "fear"), {})
    task = new_task(
        source, ("joy", "fear"), {}, found, str(tokenizer_folder), {"file": annotate.sha256(source)}
    )
    asked, systems = [], []

    class Answers:
        def __init__(self, profiles):
            self.profiles = profiles

        def write(self, target, profiles):
            if len(asked) == 2 and not systems:
                raise KeyboardInterrupt
            Path(f"{target}.json").write_text(json.dumps(profiles))

    def ask_personas(dialogues, experts, cache, needed):
        asked.append([dialogue.dialogue_id for dialogue in dialogues])
        profiles = {f"own:own:{name}": {"Speaker": f"Is number {name}."} for name in asked[-1]}
        return profiles, Answers(profiles)

    @contextmanager
    def of_run(run, work):
        yield "experts"

    def ask(run, task):
        read = annotate.read_dialogues(source, task.labels, {}, True)
        for own, profiles in zip(read, prompts.read_personas(tmp_path / "out.work"), strict=False):
            systems.append(profiles[f"own:own:{own.dialogue.dialogue_id}"]["Speaker"])
        raise KeyboardInterrupt

    monkeypatch.setattr(annotate.personas, "ask_personas", ask_personas)
    monkeypatch.setattr(experts, "asked", of_run)
    for module in (prompts, annotate):
        monkeypatch.setattr(module, "PERSONAS_OF", 2)
    OmegaConf.update(run.config, "expert.kind", "endpoint", force_add=True)
    with pytest.raises(KeyboardInterrupt):
        annotate.annotate(run, task, output_at(str(tmp_path / "out")), "mine", ask)
    assert asked == [["0", "1"], ["2", "3"]]
    systems.append("stopped once")
    with pytest.raises(KeyboardInterrupt):
        annotate.annotate(run, task, output_at(str(tmp_path / "out")), "mine", ask)
    assert asked[2:] == [["2", "3"], ["4"]]
    assert systems[1:] == [f"Is number {i}." for i in range(5)]
