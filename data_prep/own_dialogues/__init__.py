"""Dialogues that a user brings in a CSV, JSON-lines or text file, as the corpora's readers hand them out."""
