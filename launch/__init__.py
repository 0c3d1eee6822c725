"""Around a run: building the environment, `make doctor`, submission, container and cluster files."""
