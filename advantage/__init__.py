"""SELF-GRPO's advantages (Eq. 11-13)."""
