"""All that runs inside veRL's processes: trainer, estimator, dataset, stages, and the CPU shims."""
