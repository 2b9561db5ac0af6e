"""Intervals, resampling and tests over the tables that a study writes."""
