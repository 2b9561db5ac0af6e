"""The demo world: a small multilingual corpus with known contents."""
