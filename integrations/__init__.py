"""The method in other people's tools, each of which needs an environment of its own."""
