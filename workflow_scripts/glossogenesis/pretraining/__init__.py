"""Small models that a study trains itself, in phases."""
