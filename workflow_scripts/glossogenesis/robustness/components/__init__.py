"""Patching of attention and MLP outputs at the last position."""
