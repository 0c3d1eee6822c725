"""Settings: a group for every decision that a user makes, on top of veRL's. A package, as Hydra wants it."""
