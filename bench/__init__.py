"""How long what we do takes, and in how much memory, on made-up input of any size."""
