"""Nothing of a corpus that may not be passed on is in a published buffer, and what is left out is counted."""

from __future__ import annotations

from collections import Counter

import pyarrow.parquet as pq
import pytest

from data_prep.corpora import may_be_passed_on, terms_of
from data_prep.rows import write_rows
from recipe.publishing.shareable import GROWN, HOLDS, OF_CORPUS, UNKNOWN, shareable
from rewards.labels import LABELS

LINE = "I waited for you at the station, and you never came."


def played(row, row_id, parent, corpus=None, **changes):
    """A self-play row that says it grew from another one."""
    info = (
        row["extra_info"] | {"row_id": row_id, "origin": "self_play", "parent": parent, "turn": 1} | changes
    )
    return row | {"extra_info": info, "data_source": corpus or row["data_source"]}


@pytest.fixture
def rows(tmp_path, make_prompt_row):
    """Prompts of both kinds as the run has read them; returned by corpus."""
    given = {
        "meld": make_prompt_row("meld:1"),
        "iemocap": make_prompt_row(
            "iemocap:1", turns=(("M", "So?"), ("F", LINE)), corpus="iemocap", persona="M"
        ),
    }
    write_rows(given.values(), tmp_path / "data/train.parquet")
    return given


def divided(rows, folder, closed=("iemocap",)):
    kept, left_out = shareable(rows, folder, closed)
    return [row["extra_info"]["row_id"] for row in kept], left_out


def test_rows_of_the_corpus_and_what_grew_from_them_stay_out(rows, tmp_path):
    second = played(rows["meld"], "s2", "s1")
    write_rows(
        [played(rows["iemocap"], "s1", "iemocap:1", "meld")], tmp_path / "iter_1/self_play/played_1.parquet"
    )
    write_rows([second], tmp_path / "iter_1/self_play/played_2.parquet")
    buffer = [
        rows["meld"],
        rows["iemocap"],
        played(rows["iemocap"], "s0", "iemocap:1"),
        second,  # its parent s1 is not in B, and calls itself MELD's: the chain began with IEMOCAP
        played(rows["meld"], "s3", "meld:1"),
        played(rows["meld"], "s4", "gone"),
        played(rows["meld"], "s5", "s5"),
    ]
    kept, left_out = divided(buffer, tmp_path)
    assert kept == ["meld:1", "s3"]
    assert left_out == {("iemocap", OF_CORPUS): 1, ("iemocap", GROWN): 2, ("meld", UNKNOWN): 2}


@pytest.mark.parametrize("place", ["context", "response", "persona", "theme", "prompt"])
@pytest.mark.parametrize("text", [LINE, f"He said: '{LINE.upper()[:-1]}!' and left", f"Well... {LINE}"])
def test_a_line_of_the_corpus_anywhere_in_a_row_keeps_it_out(rows, tmp_path, place, text):
    row = rows["meld"]
    info = row["extra_info"]
    changed = {
        "context": row | {"extra_info": info | {"context": [{"speaker": "Ann", "text": text}]}},
        "response": row | {"response": text},
        "persona": row | {"extra_info": info | {"persona": {"name": "Bob", "profile": text}}},
        "theme": row | {"extra_info": info | {"theme": text}},
        "prompt": row | {"prompt": [{"role": "user", "content": text}]},
    }[place]
    assert divided([row, changed], tmp_path) == (["meld:1"], Counter({("iemocap", HOLDS): 1}))


def test_what_everybody_says_keeps_nothing_out(rows, tmp_path):
    """The short line of the corpus ("So?"), the beginning of a long one, its words in another order."""
    texts = ["So?", "I waited for you at the station", "you never came, and I waited for you at the station"]
    buffer = [rows["meld"] | {"response": text} for text in texts]
    assert divided(buffer, tmp_path) == (["meld:1"] * 3, Counter())


def test_where_nothing_is_closed_all_is_kept(rows, tmp_path):
    assert divided(list(rows.values()), tmp_path, ()) == (["meld:1", "iemocap:1"], Counter())


def test_every_corpus_says_its_terms_and_an_unknown_one_is_closed():
    assert {corpus: may_be_passed_on(corpus) for corpus in LABELS} == {
        "meld": True, "emorynlp": True, "iemocap": False,
    }  # fmt: skip
    assert all("http" in terms_of(corpus) for corpus in LABELS)
    assert not may_be_passed_on("another") and "does not state" in terms_of("another")


def test_the_rows_of_a_run_are_read_as_they_stand(rows, tmp_path):
    path = tmp_path / "data/train.parquet"
    kept, left_out = divided(pq.read_table(path).to_pylist(), tmp_path)
    assert kept == ["meld:1"] and left_out == {("iemocap", OF_CORPUS): 1}
