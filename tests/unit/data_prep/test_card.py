"""The data card: its numbers against counts of the rows themselves, and what stands on the page."""

from __future__ import annotations

import html.parser
import json
import re
import statistics
from collections import Counter

import pytest

from data_prep.card import share_above, summary, survey, write_card
from data_prep.corpora import read_corpora
from data_prep.prepare import main, prepare
from data_prep.prompt import load_templates
from data_prep.rows import ground_truth, read_rows
from tests.unit.samples import SAMPLES

SPLITS = ("train", "dev", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare(SAMPLES, folder)
    return folder


def test_the_survey_counts_what_the_rows_hold(folder):
    parts, personas = survey(folder)
    assert [(p.corpus, p.split) for p in parts] == [
        (corpus, split) for corpus in ("meld", "iemocap", "emorynlp") for split in SPLITS
    ]
    people = Counter()
    for part in parts:
        rows = [r for r in read_rows(folder / f"{part.split}.parquet") if r["data_source"] == part.corpus]
        assert part.utterances == len(rows)
        assert part.dialogues == len({r["extra_info"]["dialogue_id"] for r in rows})
        assert part.labels == Counter(max(ground_truth(r)) for r in rows)
        assert part.contexts == Counter(len(r["extra_info"]["context"]) for r in rows)
        assert part.characters == Counter(sum(len(m["content"]) for m in r["prompt"]) for r in rows)
        assert part.tokens == Counter()
        for row in {r["extra_info"]["dialogue_id"]: r for r in rows}.values():
            people[part.corpus] += len(row["extra_info"]["personas"])
    assert {corpus: p.by_source for corpus, p in personas.items()} == {
        corpus: {"stand-in": count} for corpus, count in people.items()
    }


def test_tokens_are_those_of_the_chat_template(folder, tokenizer, tokenizer_folder):
    from data_prep.card import _token_counter

    rows = read_rows(folder / "dev.parquet")[:3]
    texts = [
        tokenizer.apply_chat_template(r["prompt"], add_generation_prompt=True, tokenize=False) for r in rows
    ]
    wanted = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
    assert _token_counter(tokenizer_folder)([r["prompt"] for r in rows]) == wanted


def test_summary_and_share():
    lengths = [3, 3, 5, 8, 8, 8, 9, 20, 20, 100]
    found = summary(Counter(lengths))
    assert found["mean"] == pytest.approx(statistics.mean(lengths))
    assert (found["median"], found["p95"], found["largest"]) == (8, 100, 100)
    assert share_above(Counter(lengths), 9) == 0.3  # 20, 20, 100: the limit itself fits


class Page(html.parser.HTMLParser):
    """Text of a page, and whatever it would load from elsewhere."""

    def __init__(self, text: str):
        super().__init__()
        self.loads, self.words = [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.loads += [v for k, v in attributes if k in ("src", "href", "xlink:href") and v[:1] != "#"]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_is_whole(folder, tokenizer_folder, tmp_path):
    overlap = {"test": "meld", "train": "emorynlp", "unit": "utterance", "total": 8, "exact": 1, "near": 2}
    (folder / "leakage.json").write_text(json.dumps([{**overlap, "ids": []}]))
    dialogue = next(read_corpora(SAMPLES, ["meld"]))
    written = {f"meld:train:{dialogue.dialogue_id}": {dialogue.utterances[0].speaker: "<b>Bold</b> person."}}
    (folder / "personas.json").write_text(json.dumps(written))
    reject = {"name": "persona:meld:train:1", "endpoint": "e", "reason": "it lacks <Ann>", "answer": "<no>"}
    (folder / "personas.rejects.jsonl").write_text((json.dumps(reject) + "\n") * 2)
    path = write_card(folder, SAMPLES, tokenizer=tokenizer_folder, max_prompt_length=100)
    assert path == folder / "data_card.html" and not list(folder.glob("*.part"))
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.loads == [] and "@import" not in text and "url(http" not in text
    words = " ".join(" ".join(page.words).split())
    for part in survey(folder)[0]:
        assert f"{part.corpus} {part.split} {part.utterances} {part.dialogues}" in words
    assert "2 of 8" in words and "25.0%" in words  # the heat map's text
    assert "meld emorynlp utterance 8 1 2 25.0" in words
    assert "it lacks <Ann> 2" in words and "<no>" in words
    assert load_templates().digest in words
    assert "above 100" in words
    assert "checksum of their checksums" in words and "train_sent_emo.csv" in words
    # The sample's sentence is the stand-in's, so the expert's, which no row holds, is not counted.
    assert re.search(r"meld (\d+) 0 \1 ", words)
    again = write_card(folder, SAMPLES, tokenizer=tokenizer_folder, max_prompt_length=100)
    assert again.read_text(encoding="utf-8") == text  # nothing of the date or of chance


def test_expert_personas_are_told_from_the_stand_in(tmp_path):
    dialogue = next(read_corpora(SAMPLES, ["meld"]))
    sentences = {u.speaker: f"{u.speaker} is a <kind> person." for u in dialogue.utterances}
    written = {f"meld:{dialogue.split}:{dialogue.dialogue_id}": sentences}
    prepare(SAMPLES, tmp_path, ["meld"], profiles=written)
    (tmp_path / "personas.json").write_text(json.dumps(written))
    _, personas = survey(tmp_path)
    assert personas["meld"].by_source["experts"] == len(sentences)
    text = write_card(tmp_path, SAMPLES, ["meld"]).read_text(encoding="utf-8")
    assert "is a &lt;kind&gt; person." in text and "<kind>" not in text
    assert "Not computed" in text  # there is no leakage.json


@pytest.mark.parametrize("kind", ["none", "empty", "no template"])
def test_a_tokenizer_that_cannot_count(folder, tmp_path, tokenizer, kind):
    where = tmp_path / "tokenizer"
    if kind == "empty":
        where.mkdir()
    if kind == "no template":
        tokenizer.save_pretrained(where)
        (where / "chat_template.jinja").unlink(missing_ok=True)
        settings = json.loads((where / "tokenizer_config.json").read_text())
        settings.pop("chat_template", None)
        (where / "tokenizer_config.json").write_text(json.dumps(settings))
    said = {"none": "no such folder", "empty": "cannot be read", "no template": "no chat template"}[kind]
    with pytest.raises(ValueError, match=f"{where}.* {said}"):
        write_card(folder, SAMPLES, tokenizer=where)


def test_the_command_writes_the_card_and_leaves_no_old_findings(tmp_path, monkeypatch, capsys):
    command = ["prepare", "--out-dir", str(tmp_path), "--corpora", "meld"]
    monkeypatch.setattr("sys.argv", command)
    assert main() == 0
    (tmp_path / "personas.json").write_text("{}")
    assert main() == 0
    assert str(tmp_path / "data_card.html") in capsys.readouterr().out
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "data_card.html", "dev.parquet", "leakage.json", "test.parquet", "train.parquet"
    ]  # fmt: skip
    for length, said in (("5", "name a --tokenizer"), ("0", "=0 must be at least 1"), ("-3", "=-3 must be")):
        tokenizer = ["--tokenizer", "x"] if length != "5" else []
        monkeypatch.setattr("sys.argv", [*command, *tokenizer, f"--max-prompt-length={length}"])
        with pytest.raises(SystemExit):
            main()
        assert said in capsys.readouterr().err


def test_too_many_utterances_leave_the_leakage_out(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["prepare", "--out-dir", str(tmp_path), "--corpora", "meld"])
    assert main() == 0 and (tmp_path / "leakage.json").exists()
    monkeypatch.setattr("data_prep.prepare.LEAKAGE_LIMIT", 3)
    assert main() == 0
    assert not (tmp_path / "leakage.json").exists()
    assert "Not computed" in (tmp_path / "data_card.html").read_text(encoding="utf-8")


def test_a_training_run_writes_the_card_of_what_it_uses(tmp_path):
    from omegaconf import OmegaConf

    from recipe.run.run import Run
    from recipe.steps import data

    config = OmegaConf.create(
        {
            "prompts": {"dir": "compact"}, "expert": {"kind": "offline"}, "run": {"seed": 3},
            "raw_dir": None, "corpora": ["meld"], "decontaminate": "report",
            "train_rows": 20, "dev_rows": 5, "test_rows": 4, "flywheel": {"held_out": 0.05},
            "samples": {"train": 300, "dev": 60, "test": 90, "seed": 1},
            "labels": {"kind": "gold"}, "personas": {"scope": "dialogue"},
        }
    )  # fmt: skip
    data.make(Run(config, tmp_path), tmp_path)
    words = " ".join(" ".join(Page((tmp_path / "data_card.html").read_text(encoding="utf-8")).words).split())
    for split, rows in (("train", 20), ("dev", 5), ("test", 4)):
        assert f"meld {split} {rows} " in words
    assert f"compact , digest {load_templates('compact').digest}" in words and "iemocap" not in words
    assert "Not computed" not in words
