"""Activation patching: overwrite parts of the residual stream and watch what the model answers."""
