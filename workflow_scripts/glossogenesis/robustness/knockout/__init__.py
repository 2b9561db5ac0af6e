"""Features removed from a classifier's residual stream."""
