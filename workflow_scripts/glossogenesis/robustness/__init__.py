"""The robustness study: what a classifier's decisions rest on."""
