"""What starts whole programs, which no unit test does: commands, builds, kills, a browser, environments."""
