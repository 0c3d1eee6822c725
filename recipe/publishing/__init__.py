"""Handing a finished run on: a model and a dataset as Hugging Face folders with their cards, and the push."""
