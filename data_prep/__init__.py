"""The corpora as prompts in Parquet: found, read, rendered, checked for leakage, with a card and personas."""
