"""Glossogenesis: how a language model becomes multilingual, checkpoint by checkpoint."""

__version__ = "0.1.0"
