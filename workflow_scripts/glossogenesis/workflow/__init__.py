"""What runs a study: programs, stages and their costs, checks, plans and disk."""
