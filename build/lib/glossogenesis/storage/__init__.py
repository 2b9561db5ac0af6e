"""Artifacts on disk: atomic writes, and provenance in each file's own metadata."""
