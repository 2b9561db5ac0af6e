"""Intervals and tests over the tables that a study writes."""
