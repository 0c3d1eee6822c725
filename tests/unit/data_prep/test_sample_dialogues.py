"""The generator of sample dialogues: one seed, one text; splits apart; no word gives a label away."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict

import pytest

from data_prep import sample_lines
from data_prep.corpora import SPLITS, read_corpora
from data_prep.leakage import normalised, overlaps
from data_prep.sample_dialogues import dialogues, unlabelled, write_corpora
from data_prep.sample_lines import NAMES
from rewards.labels import LABELS

SIZES = {"train": 1500, "dev": 300, "test": 600}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_corpora(folder, SIZES, seed=1)
    return list(read_corpora(folder))


def of(corpora, split, corpus=None):
    return [d for d in corpora if d.split == split and corpus in (None, d.corpus)]


def test_the_readers_read_what_was_asked_for(corpora):
    for split in SPLITS:
        for corpus in LABELS:
            found = sum(len(d.utterances) for d in of(corpora, split, corpus))
            assert SIZES[split] / 3 <= found < SIZES[split] / 3 + 8
    assert {len({u.speaker for u in d.utterances}) for d in corpora} == {2}


def test_every_label_occurs_in_every_split_and_neutral_is_the_most_frequent(corpora):
    for split in SPLITS:
        for corpus, labels in LABELS.items():
            count = Counter(u.label for d in of(corpora, split, corpus) for u in d.utterances)
            assert set(count) == set(labels)
            assert count.most_common(1)[0][0].casefold() == "neutral"
            assert 0.25 < count.most_common(1)[0][1] / count.total() < 0.5


def test_a_seed_is_a_text(tmp_path):
    """The digest is pinned: another version of Python must write the same bytes."""
    for name, seed in (("a", 7), ("b", 7), ("c", 8)):
        write_corpora(tmp_path / name, {"train": 60, "dev": 30, "test": 30}, seed)

    def digest(folder):
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        content = b"".join(str(path.relative_to(folder)).encode() + path.read_bytes() for path in files)
        return hashlib.sha256(content).hexdigest()[:16]

    assert digest(tmp_path / "a") == digest(tmp_path / "b") != digest(tmp_path / "c")
    assert digest(tmp_path / "a") == "d0b137f151b16044"


def test_no_long_line_and_no_dialogue_stands_in_two_splits(corpora):
    places = defaultdict(set)
    for dialogue in corpora:
        places[" | ".join(u.text for u in dialogue.utterances)].add(dialogue.split)
        for utterance in dialogue.utterances:
            if len(utterance.text) >= 31:
                places[normalised(utterance.text)].add(dialogue.split)
    assert [text for text, splits in places.items() if len(splits) > 1] == []
    assert sum(o.exact for o in overlaps(corpora)) == 0


def test_no_word_decides(corpora):
    """Whatever word is in an event line, at least two labels of a corpus share it."""
    for corpus in LABELS:
        labels = defaultdict(Counter)
        for dialogue in of(corpora, "train", corpus):
            for utterance in dialogue.utterances:
                for word in set(normalised(utterance.text).split()):
                    labels[word][utterance.label] += 1
        events = {
            w for frames in sample_lines.MANNERS.values() for f in frames[1] for w in normalised(f).split()
        }
        events |= {*sample_lines.GOOD, *sample_lines.BAD, "never", "not", "got", "i", "yes", "no"}
        for word in events & {w for w, c in labels.items() if c.total() >= 30}:
            assert labels[word].most_common(1)[0][1] < 0.8 * labels[word].total(), (corpus, word)


@pytest.mark.parametrize(
    ("manner", "signs", "feeling"),
    [("plain", 1, "joy"), ("plain", -1, "sadness"), ("you", -1, "anger"), ("secret", -1, "disgust")],
)
def test_the_product_of_the_signs_and_the_manner_give_the_feeling(manner, signs, feeling):
    assert sample_lines.FEELINGS[manner][signs] == feeling


def test_all_feelings_of_a_corpus_have_a_name():
    for corpus, names in NAMES.items():
        said = {line.feeling for lines in dialogues(3, corpus, "train", 600) for line in lines}
        assert said <= set(names)
        assert {names[feeling] for feeling in said} == set(LABELS[corpus])


def test_unlabelled_dialogues_keep_out_of_dev_and_test(corpora):
    held_out = {
        normalised(u.text) for d in corpora if d.split != "train" for u in d.utterances if len(u.text) >= 31
    }
    read = [turn for _, turns in unlabelled(1, 900) for turn in turns]
    assert len(read) > 2500
    assert set(read[0]) == {"speaker", "text"}
    assert not held_out & {normalised(turn["text"]) for turn in read}


def test_a_split_without_utterances_is_refused(tmp_path):
    with pytest.raises(ValueError, match="dev"):
        write_corpora(tmp_path, {"train": 9, "test": 9}, seed=1)
