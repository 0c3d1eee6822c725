"""What `make soak` does to runs: kills, power losses, full disks."""
