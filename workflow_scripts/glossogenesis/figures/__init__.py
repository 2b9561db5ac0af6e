"""Figures of a study: one style, one module a figure family, a frame in and a Figure out."""
