"""The features study: language and meaning of features, and both over training."""
