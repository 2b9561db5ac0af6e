"""The concepts study: cross-lingual activation patching of few-shot word translation."""
