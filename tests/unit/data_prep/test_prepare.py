"""Dialogues to rows: who answers whom, with how much context, and an expert that keeps the rule."""

from __future__ import annotations

import gc
import json
import shutil
import sys
from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_prep import prepare as prepare_module
from data_prep.corpora import read_corpora
from data_prep.corpora.dialogue import DataError, Dialogue, Utterance
from data_prep.corpora.dialogue import Row as CsvRow
from data_prep.experts.offline import profile, respond
from data_prep.experts.personas import THEME, key
from data_prep.prepare import LISTENER, UNHEARD, choose_responder, dialogue_rows, prepare
from data_prep.prompt import PromptTemplates, load_templates, render
from data_prep.rows import ground_truth, read_rows
from rewards.iou import compute_score
from rewards.labels import LABELS
from rewards.parse import parse_output
from tests.unit.samples import SAMPLES

TEMPLATES = load_templates()


def dialogue(*turns: tuple[str, str, str | None], corpus: str = "meld") -> Dialogue:
    utterances = tuple(Utterance(str(i), *turn[:2], turn[2]) for i, turn in enumerate(turns))
    return Dialogue(corpus, "dev", "dev_7", utterances)


@pytest.mark.parametrize(
    ("speakers", "i", "wanted"),
    [
        ("ABA", 0, "B"),
        ("ABC", 1, "C"),  # the next other speaker, not the one before
        ("AAB", 0, "B"),
        ("ABB", 2, "A"),  # nobody after: the last other one
        ("CABB", 3, "A"),
        ("AAA", 1, None),
        ("A", 0, None),
    ],
)
def test_who_answers(speakers, i, wanted):
    assert choose_responder(list(speakers), i) == wanted


def test_rows_of_a_dialogue():
    rows = list(
        dialogue_rows(
            dialogue(("Ann", "Hello.", "neutral"), ("Bob", "Hm.", None), ("Ann", "I won!", "joy")), TEMPLATES
        )
    )
    assert [r["extra_info"]["row_id"] for r in rows] == ["meld:dev_7:0", "meld:dev_7:2"]
    first, last = (r["extra_info"] for r in rows)
    assert [t["text"] for t in first["context"]] == ["Hello."]  # nothing of what is said later
    assert [t["text"] for t in last["context"]] == ["Hello.", "Hm.", "I won!"]
    assert (first["speaker"], first["persona"]["name"]) == ("Ann", "Bob")
    assert (last["speaker"], last["persona"]["name"]) == ("Ann", "Bob")
    assert [p["name"] for p in last["personas"]] == ["Ann", "Bob"]
    assert [ground_truth(r) for r in rows] == [{"neutral": 1.0}, {"joy": 1.0}]
    assert (last["split"], last["origin"], last["iteration"], last["labels"]) == (
        "dev", "original", 0, list(LABELS["meld"]),
    )  # fmt: skip
    assert rows[1]["data_source"] == "meld" and rows[1]["response"] is None
    assert rows[1]["prompt"] == render(last["context"], last["persona"], LABELS["meld"], TEMPLATES)


def test_the_theme_of_the_experts_reaches_row_and_prompt():
    spoken = dialogue(("Ann", "Hello.", "neutral"), ("Bob", "Hm.", "joy"))
    templates = PromptTemplates("{name}: {profile}\nOn {theme}.", "{history}")
    profiles = {"Ann": "Ann is Ann.", "Bob": "Bob is Bob.", THEME: "parting"}
    for row in dialogue_rows(spoken, templates, {key(spoken): profiles}):
        assert row["extra_info"]["theme"] == "parting"
        assert row["prompt"][0]["content"].endswith("\nOn parting.")
        assert {p["name"] for p in row["extra_info"]["personas"]} == {"Ann", "Bob"}  # the theme is nobody
    for row in dialogue_rows(spoken, templates):
        assert row["extra_info"]["theme"] == "" and "\n" not in row["prompt"][0]["content"]


def test_personas_of_the_past_know_no_later_line():
    """With ``scope=dialogue`` they know the future at test time, as the paper's do."""
    spoken = dialogue(
        ("Ann", "Hm.", "neutral"), ("Bob", "Why? Who? Where?", "joy"), ("Ann", "I won! I won! Yes!", "joy")
    )
    first, second, third = (
        {p["name"]: p["profile"] for p in row["extra_info"]["personas"]}
        for row in dialogue_rows(spoken, TEMPLATES, scope="past")
    )
    assert first == {"Ann": profile("Ann", ["Hm."]), "Bob": UNHEARD}
    assert second["Ann"] == first["Ann"] and second["Bob"] == profile("Bob", ["Why? Who? Where?"])
    assert third["Ann"] == profile("Ann", ["Hm.", "I won! I won! Yes!"]) != first["Ann"]
    everything = [row["extra_info"]["personas"] for row in dialogue_rows(spoken, TEMPLATES)]
    assert everything[0] == everything[2]


def test_what_experts_say_of_the_past_is_found():
    spoken = dialogue(("Ann", "Hello.", "neutral"), ("Bob", "Hm.", "joy"))
    profiles = {
        "meld:dev:dev_7@0": {"Ann": "A beginner.", "Bob": "Unknown.", THEME: "greeting"},
        "meld:dev:dev_7@1": {"Ann": "A greeter.", "Bob": "A man of few words.", THEME: "silence"},
    }
    rows = list(dialogue_rows(spoken, TEMPLATES, profiles, scope="past"))
    assert [row["extra_info"]["theme"] for row in rows] == ["greeting", "silence"]
    assert rows[1]["extra_info"]["persona"] == {"name": "Ann", "profile": "A greeter."}


@pytest.mark.parametrize(
    ("votes", "wanted"),
    [
        ({"sadness": 2, "anger": 1}, {"sadness": 2 / 3, "anger": 1 / 3}),
        ({"sadness": 1, "anger": 1}, {"sadness": 0.6, "anger": 0.4}),  # a tie: half a vote more
        ({"anger": 2}, {"sadness": 2.5 / 4.5, "anger": 2 / 4.5}),
        (None, {"sadness": 1.0}),
        ({}, {"sadness": 1.0}),
    ],
)
def test_votes_keep_the_corpus_s_label_heaviest(votes, wanted):
    alone = Dialogue("meld", "dev", "dev_7", (Utterance("0", "Ann", "Alone.", "sadness", votes),))
    (row,) = dialogue_rows(alone, TEMPLATES, labels="votes")
    assert ground_truth(row) == pytest.approx(wanted)
    (gold,) = dialogue_rows(alone, TEMPLATES)
    assert ground_truth(gold) == {"sadness": 1.0}


def test_a_monologue_has_a_listener():
    (row,) = dialogue_rows(dialogue(("Ann", "Alone.", "sadness")), TEMPLATES)
    assert row["extra_info"]["persona"] == LISTENER


def test_the_gold_label_is_not_in_the_prompt():
    labels = LABELS["meld"]
    prompts = [
        next(dialogue_rows(dialogue(("Ann", "Hello.", label), ("Bob", "Hm.", label)), TEMPLATES))["prompt"]
        for label in labels
    ]
    assert all(prompt == prompts[0] for prompt in prompts)


def test_prepare_writes_all_splits_of_the_samples(tmp_path):
    counts = prepare(SAMPLES, tmp_path)
    wanted = {split: Counter() for split in ("train", "dev", "test")}
    for d in read_corpora(SAMPLES):
        wanted[d.split][d.corpus] += sum(u.label is not None for u in d.utterances)
    assert counts == wanted
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dev.parquet", "test.parquet", "train.parquet"]
    ids = set()
    for split in wanted:
        rows = read_rows(tmp_path / f"{split}.parquet")
        assert Counter(r["data_source"] for r in rows) == wanted[split]
        ids |= {r["extra_info"]["row_id"] for r in rows}
        for row in rows:
            (label,) = ground_truth(row)
            assert label in LABELS[row["data_source"]] and ground_truth(row)[label] == 1.0
            info = row["extra_info"]
            assert info["persona"]["name"] != info["speaker"]
            # Parquet's struct of all labels is a label that the reward takes.
            compute_score(row["data_source"], "", row["reward_model"]["ground_truth"], info)
    assert len(ids) == sum(map(Counter.total, wanted.values()))


def test_the_command_line(tmp_path, monkeypatch, capsys):
    command = ["prepare", "--out-dir", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", [*command, "--raw-dir", str(SAMPLES), "--corpora", "meld"])
    assert prepare_module.main() == 0
    said = capsys.readouterr().out
    assert "meld" in said and "iemocap" not in said and "made up" not in said
    monkeypatch.setattr(prepare_module, "sample_corpora", lambda: SAMPLES)
    monkeypatch.setattr(sys, "argv", [*command, "--corpora", "meld"])
    assert prepare_module.main() == 0
    assert "no RAW_DIR: dialogues that the project makes up" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", [*command, "--raw-dir", str(tmp_path / "none")])
    assert prepare_module.main() == 1
    said = capsys.readouterr().err
    assert said.startswith("error: ") and "no such folder" in said


# ---- the offline expert ----


@given(st.sampled_from(sorted(LABELS)), st.text(max_size=60), st.text(min_size=1, max_size=10))
def test_the_expert_keeps_the_rule_on_any_words(corpus, text, name):
    persona = {"name": name, "profile": ""}
    response = respond([{"speaker": "Ann", "text": text}], persona, corpus)
    assert parse_output(response, LABELS[corpus]).valid
    assert respond([{"speaker": "Ann", "text": text}], persona, corpus) == response


def test_the_expert_keeps_the_rule_on_the_samples():
    for d in read_corpora(SAMPLES):
        for i, utterance in enumerate(d.utterances):
            context = [{"speaker": u.speaker, "text": u.text} for u in d.utterances[: i + 1]]
            response = respond(context, {"name": "Bob", "profile": ""}, d.corpus)
            output = parse_output(response, LABELS[d.corpus])
            assert output.valid, (utterance, response)


def test_a_profile_is_one_sentence():
    for lines in ([], ["Hi."], ["What? Why?"] * 3, ["Wow!"] * 3, ["a " * 30]):
        text = profile("Ann", lines)
        assert text.endswith(".") and text.count(".") == 1 and json.dumps(text)


# ---- size ----

HEADER = "Utterance,Speaker,Emotion,Dialogue_ID,Utterance_ID\n"


def write_meld(raw_dir, train_lines: list[str]):
    (raw_dir / "meld").mkdir(parents=True)
    for split in ("train", "dev", "test"):
        lines = train_lines if split == "train" else ["Hi,Ann,joy,0,0\n"]
        (raw_dir / f"meld/{split}_sent_emo.csv").write_text(HEADER + "".join(lines), encoding="utf-8")
    return raw_dir


def test_a_dialogue_at_a_time_is_held(tmp_path, monkeypatch):
    held = []

    def counting(dialogue, *more, **options):
        if dialogue.dialogue_id in ("train_9", "train_39"):
            objects = gc.get_objects()
            held.append([sum(type(o) is kind for o in objects) for kind in (Dialogue, CsvRow)])
        return dialogue_rows(dialogue, *more, **options)

    monkeypatch.setattr("data_prep.prepare.dialogue_rows", counting)
    lines = [f"Line {i},{'AB'[i % 2]},joy,{i // 4},{i % 4}\n" for i in range(160)]
    before = [sum(type(o) is kind for o in gc.get_objects()) for kind in (Dialogue, CsvRow)]
    prepare(write_meld(tmp_path / "raw", lines), tmp_path / "out")
    assert len(held) == 2
    for dialogues, rows in held:
        assert dialogues - before[0] <= 2 and rows - before[1] <= 8


def test_rows_that_do_not_stand_together_are_grouped_all_the_same(tmp_path):
    lines = [f"Line {i},{'AB'[i % 2]},joy,{i // 3},{i % 3}\n" for i in range(12)]
    prepare(write_meld(tmp_path / "sorted", lines), tmp_path / "a")
    prepare(write_meld(tmp_path / "mixed", lines[::3] + lines[2::3] + lines[1::3]), tmp_path / "b")
    assert read_rows(tmp_path / "a/train.parquet") == read_rows(tmp_path / "b/train.parquet")


def test_a_missing_file_is_an_error_before_anything_is_written(tmp_path):
    raw_dir = write_meld(tmp_path / "raw", ["Hi,Ann,joy,0,0\n"])
    (raw_dir / "iemocap/Session1").mkdir(parents=True)
    (raw_dir / "iemocap_split.json").write_text('{"train": [], "dev": [], "test": ["Ses05F_impro01"]}')
    with pytest.raises(DataError, match="Session5: no such session, but split 'test' names 'Ses05F_impro01'"):
        prepare(raw_dir, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_splits_get_their_names_together(tmp_path):
    raw_dir = write_meld(tmp_path / "raw", ["Hi,Ann,joy,0,0\n"])
    prepare(raw_dir, tmp_path / "out")
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    (raw_dir / "meld/train_sent_emo.csv").write_text(HEADER + "Oh no,Bob,fear,0,0\n")
    (raw_dir / "meld/test_sent_emo.csv").write_text(HEADER + "Hi,Ann,bliss,0,0\n")
    with pytest.raises(DataError, match="bliss"):
        prepare(raw_dir, tmp_path / "out")
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before
    assert set(before) == {"train.parquet", "dev.parquet", "test.parquet"}


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    def full(*_, **__):
        raise OSError(28, "No space left on device", str(tmp_path / "train.parquet"))

    monkeypatch.setattr(prepare_module, "prepare", full)
    monkeypatch.setattr(sys, "argv", ["prepare", "--raw-dir", str(SAMPLES), "--out-dir", str(tmp_path)])
    assert prepare_module.main() == 1
    (said,) = capsys.readouterr().err.strip().splitlines()
    assert said.startswith(f"error: {tmp_path / 'train.parquet'}: No space left on device; free some space")


def test_make_data_writes_over_nothing_but_its_own(tmp_path, monkeypatch, capsys):
    def make(raw, out) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["prepare", "--raw-dir", str(raw), "--out-dir", str(out)])
        return prepare_module.main(), capsys.readouterr().err

    shutil.copytree(SAMPLES, tmp_path / "raw")
    before = {path: path.read_bytes() for path in (tmp_path / "raw").rglob("*") if path.is_file()}
    for inside in ("", "meld", "MELD/here"):
        assert make(tmp_path / "raw", tmp_path / "raw" / inside)[0] == 1
    status, said = make(tmp_path / "raw", tmp_path / "raw/meld")
    assert status == 1 and "holds the corpora that are read from it" in said
    assert before == {path: path.read_bytes() for path in (tmp_path / "raw").rglob("*") if path.is_file()}

    mine = tmp_path / "mine"
    for name in ("train.parquet", "leakage.json"):
        mine.mkdir()
        (mine / name).write_text("mine")
        status, said = make(tmp_path / "raw", mine)
        assert status == 1 and f"{mine}: {name} would be written over" in said
        assert [path.name for path in mine.iterdir()] == [name] and (mine / name).read_text() == "mine"
        shutil.rmtree(mine)
    pq.write_table(pa.table({"data_source": ["a"], "prompt": ["b"]}), tmp_path / "train.parquet")
    assert "would be written over" in make(tmp_path / "raw", tmp_path)[1]

    assert make(tmp_path / "raw", tmp_path / "raw/../out")[0] == 0
    assert make(tmp_path / "raw", tmp_path / "out")[0] == 0  # its own
    (tmp_path / "out/manifest.json").touch()  # as a run's steps have one
    assert "would be written over" in make(tmp_path / "raw", tmp_path / "out")[1]
