"""Emotions of a user's own dialogues: what is asked of a checkpoint, its answers, and the tables of them."""
