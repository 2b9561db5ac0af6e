"""Features of a later checkpoint injected into an earlier one."""
