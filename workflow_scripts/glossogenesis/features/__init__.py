"""What the features of sparse autoencoders are: language, meaning, and both over training."""
