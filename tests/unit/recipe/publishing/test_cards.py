"""Cards: what they own up to, that no text becomes markup, and that the citation is the paper's."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import DatasetCard, ModelCard
from omegaconf import OmegaConf

from data_prep.leakage import normalised
from data_prep.rows import read_rows
from recipe.publishing import citation
from recipe.publishing.cards import cell
from recipe.publishing.dataset_folder import DATA, shared_buffer, write_dataset
from recipe.publishing.evidence import Evidence, evidence_of
from recipe.publishing.finished import finished_run
from recipe.publishing.licences import base_terms, licence_fields
from recipe.publishing.model_card import limits, model_card
from recipe.publishing.predictions import copy_predictions
from recipe.publishing.shareable import OF_CORPUS
from tests.unit.finished_run import make_finished_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer_folder):
    return make_finished_run(tmp_path_factory.mktemp("cards") / "fine", tokenizer_folder)


@pytest.fixture(scope="module")
def evidence(folder):
    return evidence_of(finished_run(str(folder)))


def changed(folder, **settings):
    """The run as if it had been begun with other settings."""
    run = finished_run(str(folder))
    for name, value in settings.items():
        OmegaConf.update(run.config, name.replace("__", "."), value)
    return run


def test_the_tiny_model_on_made_up_dialogues_says_so_first(folder, evidence):
    found = list(limits(changed(folder)))
    assert "tiny model" in found[0] and "made up" in found[1] and "without a GPU" in found[2]
    text = model_card(changed(folder), evidence, None, None)
    assert "**Not for use.**" in text.split("## ")[0]


def test_a_real_model_on_real_corpora_owns_up_to_other_things(folder, evidence):
    run = changed(folder, raw_dir="/home/somebody/raw", base__path="Qwen/Qwen3-8B", base__name="Qwen3-8B",
                  profile="gpu", expert__kind="endpoint", personas__scope="past")  # fmt: skip
    assert [limit.split()[0] for limit in limits(run)] == ["One", "The", "It"]
    card = ModelCard(model_card(run, evidence, "me/emo", "me/emo-b"), ignore_metadata_errors=False)
    assert (card.data.license, card.data.base_model) == ("apache-2.0", "Qwen/Qwen3-8B")
    assert card.data.datasets == ["me/emo-b"]
    assert {r.dataset_type for r in card.data.eval_results} == {"meld", "emorynlp", "iemocap"}
    assert "**Not for use.**" not in card.text and "iemocap may not be passed on" in card.text
    assert "/home/somebody" not in str(card)


def test_beside_a_licensed_corpus_predictions_have_no_answers_and_not_its_labels(folder, evidence, tmp_path):
    run = changed(folder, raw_dir="/raw")
    copy_predictions(run, tmp_path)
    columns = {
        path.stem: set(pq.read_schema(path).names) for path in (tmp_path / "predictions").glob("*.parquet")
    }
    assert {"Dialogue_ID", "Utterance_ID", "gold", "predicted"} <= columns["meld"]
    assert {"utterance", "predicted", "weights"} <= columns["iemocap"]
    assert "gold" not in columns["iemocap"] and not any("answer" in names for names in columns.values())
    text = model_card(run, evidence, None, None)
    assert "(emorynlp, iemocap, meld), under the ids" in text
    assert "without the labels of iemocap" in text
    assert "worth: its three annotators agree with Fleiss' kappa 0.43" in text


def test_a_run_of_before_predictions_were_kept_has_none(folder, evidence, tmp_path):
    run = replace(changed(folder), scored="somewhere")
    copy_predictions(run, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert "The prediction for every test row" not in model_card(
        replace(run, results={"somewhere": run.results["retrained"]}), evidence, None, None
    )


def test_alarms_leaks_and_a_better_baseline_are_on_the_card(folder, evidence):
    from recipe.evaluation.alarms import Alarm

    overlap = {"test": "meld", "train": "emorynlp", "unit": "utterance", "total": 9, "exact": 1, "near": 2}
    run = changed(folder)
    told = Evidence(
        evidence.sentence, evidence.intervals, evidence.tests, {}, [overlap], 18,
        [Alarm("accuracy fell from 0.7 to 0.6 while R rose", True, "x")],
    )  # fmt: skip
    run.results["tfidf"]["avg"]["accuracy"] = 0.999
    text = model_card(run, told, None, None)
    assert "| meld | emorynlp | utterance | 9 | 1 | 2 |" in text
    assert "1 alarm over the whole run:\n\n- accuracy fell from 0.7 to 0.6 while R rose\n" in text
    assert "**TF-IDF, logistic regression names the right label at least as often" in text
    calm = Evidence(evidence.sentence, evidence.intervals, evidence.tests, {}, [], 18, [])
    text = model_card(run, calm, None, None)
    assert "No alarm:" in text and "None, exact or near, in 18 comparisons" in text


def test_other_people_s_words_are_no_markup(folder, evidence):
    name = "x](http://h) <script>|`a` **b**\n# c"
    text = model_card(changed(folder, base__name=name), evidence, None, None)
    assert "<script>" not in text and "\n# c" not in text and "](http://h)" not in text.replace("\\](", "")
    assert cell(name) == "x\\](http://h) &lt;script&gt;\\|\\`a\\` \\*\\*b\\*\\* # c"
    yaml.safe_load(text.split("---\n")[1])


def test_every_table_has_as_many_cells_as_its_head(folder, evidence, tmp_path):
    run = changed(folder, raw_dir="/raw")
    shared = shared_buffer(run)
    write_dataset(run, shared, tmp_path, "me/emo-b", None)
    for text in (model_card(run, evidence, None, None), (tmp_path / "README.md").read_text()):
        blocks = [block for block in text.split("\n\n") if block.lstrip().startswith("|")]
        assert len(blocks) >= 2
        for block in blocks:
            lines = [line.replace("\\|", "").strip() for line in block.strip().splitlines()]
            assert len({line.count("|") for line in lines}) == 1, block
            assert set(lines[1]) == {"|", "-"}, block


def strings(value):
    """Every text in nested containers."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from strings(one)
    elif isinstance(value, str):
        yield value


def test_a_licensed_corpus_is_counted_and_not_in_the_dataset(folder, tmp_path):
    run = changed(folder, raw_dir="/raw")
    shared = shared_buffer(run)
    whole = read_rows(folder / "iter_2/buffer/buffer.parquet")
    of = Counter(row["data_source"] for row in whole)
    originals = sum(r["data_source"] == "iemocap" and r["extra_info"]["origin"] == "original" for r in whole)
    read = [*read_rows(folder / "data/train.parquet"), *read_rows(folder / "data/test.parquet")]
    lines = {
        f" {normalised(turn['text'])} "
        for row in read if row["data_source"] == "iemocap" for turn in row["extra_info"]["context"]
        if len(turn["text"]) > 30
    }  # fmt: skip
    open_ = [row for row in whole if row["data_source"] != "iemocap"]
    expected = [
        row["extra_info"]["row_id"]
        for row in open_
        if not any(line in f" {normalised(text)} " for text in strings(row) for line in lines)
    ]
    assert len(expected) > 20
    write_dataset(run, shared, tmp_path, "me/emo-b", "me/emo")
    rows = read_rows(tmp_path / DATA)
    assert [row["extra_info"]["row_id"] for row in rows] == expected
    card = DatasetCard.load(tmp_path / "README.md")
    assert f"| iemocap | {originals} | {OF_CORPUS} |" in card.text
    assert sum(shared.left_out.values()) == len(whole) - len(rows) >= of["iemocap"] > 0
    assert (card.data.license, card.data.size_categories) == ("other", ["n<1K"])
    assert "Ses0" not in (tmp_path / "README.md").read_text()


def test_made_up_dialogues_are_nobody_s_and_the_dataset_loads(folder, tmp_path, monkeypatch):
    from datasets import load_dataset

    run = changed(folder)
    write_dataset(run, shared_buffer(run), tmp_path / "b", "me/emo-b", None)
    loaded = load_dataset(str(tmp_path / "b"), split="train", cache_dir=str(tmp_path / "cache"))
    whole = read_rows(folder / "iter_2/buffer/buffer.parquet")
    assert [row["row_id"] for row in loaded["extra_info"]] == [row["extra_info"]["row_id"] for row in whole]
    assert list(loaded["response"]) == [row["response"] for row in whole]


def test_a_buffer_that_does_not_come_from_its_rollouts_is_refused(folder, tmp_path):
    import shutil

    from data_prep.rows import write_rows

    copy = tmp_path / "fine"
    shutil.copytree(folder, copy)
    path = copy / "iter_2/buffer/buffer.parquet"
    rows = read_rows(path)
    next(r for r in rows if r["extra_info"]["origin"] == "self_play")["extra_info"]["reward"] = 0.99
    write_rows(rows, path)
    with pytest.raises(ValueError, match=r"B does not come from where it says \(.*make verify RUN=fine"):
        shared_buffer(finished_run(str(copy)))


def test_a_run_on_licensed_text_alone_has_no_dataset(folder, tmp_path):
    import shutil

    from data_prep.rows import write_rows

    copy = tmp_path / "fine"
    shutil.copytree(folder, copy)
    path = copy / "iter_2/buffer/buffer.parquet"
    write_rows([r for r in read_rows(path) if r["data_source"] == "iemocap"], path)
    with pytest.raises(
        ValueError, match=r"none of its \d+ rows may be passed on \(iemocap\); leave DATASET away"
    ):
        shared_buffer(changed(copy, raw_dir="/raw"))


def test_a_licence_that_nobody_told_us_is_other():
    assert base_terms("owner/name", "owner/name") == base_terms("/a/folder", "owner/name")
    assert licence_fields(base_terms("owner/name", "owner/name").licence, "https://h/owner/name") == {
        "license": "other", "license_name": "see-card", "license_link": "https://h/owner/name",
    }  # fmt: skip


def test_the_citation_is_that_of_citation_cff(root: Path):
    paper = yaml.safe_load((root / "CITATION.cff").read_text())["preferred-citation"]
    text = " ".join(citation.BIBTEX.split()).replace(" =", "=").replace("= ", "=").replace("  ", " ")
    authors = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    for value in (authors, paper["title"], paper["journal"], str(paper["year"]), paper["url"]):
        assert f"{{{value}}}" in text, value
    assert citation.ARXIV in paper["url"]


def test_only_the_checkpoint_that_learnt_from_the_buffer_is_said_to_have(folder, evidence, tmp_path):
    for checkpoint, learnt in (("retrained", True), ("cold", False)):
        run = finished_run(f"{folder}:{checkpoint}")
        write_dataset(run, shared_buffer(run), tmp_path, "me/emo-b", "me/emo")
        text = " ".join((tmp_path / "README.md").read_text().split())
        assert ("learnt from it is [me/emo](" in text) == learnt
        assert ("is not published with it." in text) != learnt
        assert (f"another checkpoint of the run, `{run.stage}`" in text) != learnt
        card = ModelCard(model_card(run, evidence, "me/emo", "me/emo-b"), ignore_metadata_errors=False)
        assert card.data.datasets == (["me/emo-b"] if learnt else None)
        assert "The replay buffer B of this run" in card.text
