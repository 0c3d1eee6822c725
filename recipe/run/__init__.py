"""A run: its folder, the checks before it, its processes, what it uses, reuses and will need."""
