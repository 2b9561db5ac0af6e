"""Load a checkpoint, name its parts, capture its residual stream, run its blocks one by one."""
