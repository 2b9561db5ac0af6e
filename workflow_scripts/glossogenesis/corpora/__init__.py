"""Words and text: what models read."""
