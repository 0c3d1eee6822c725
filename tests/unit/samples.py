"""A small set of the sample dialogues, for whatever needs real corpus files."""

from data_prep.sample_dialogues import sample_corpora

SAMPLES = sample_corpora({"train": 300, "dev": 60, "test": 90})
