"""The made-up corpora of the benchmarks are corpora."""

from __future__ import annotations

from bench.prepare_memory import write_corpus
from data_prep.corpora import read_corpora


def test_a_made_up_corpus_has_as_many_utterances_as_asked_for(tmp_path):
    write_corpus(tmp_path, 57)
    dialogues = [d for d in read_corpora(tmp_path) if d.split == "train"]
    assert [len(d.utterances) for d in dialogues] == [10] * 5 + [7]
    assert len({u.speaker for d in dialogues for u in d.utterances}) == 5
