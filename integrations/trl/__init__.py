"""SELF-GRPO on TRL's GRPOTrainer."""
