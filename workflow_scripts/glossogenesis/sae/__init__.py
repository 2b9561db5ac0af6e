"""Sparse autoencoders: architecture, sparse gradients, training, files and quality."""
