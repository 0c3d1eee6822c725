"""SELF-EMO as a veRL recipe: Algorithm 1 (`recipe.flywheel`), its steps, and the wings that they stand on."""
