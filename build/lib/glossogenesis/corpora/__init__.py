"""Words, prompts and text: what models read."""
