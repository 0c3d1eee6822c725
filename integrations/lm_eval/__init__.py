"""The three test splits as tasks of lm-evaluation-harness."""
