"""Models: by name, made on the spot, as weights on disk, as a chat template, behind a server."""
