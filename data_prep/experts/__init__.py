"""Expert LLMs: the client, what they are asked (personas, cold-start responses), the offline stand-in."""
