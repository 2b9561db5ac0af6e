"""Activation caches: one small manifest a layer, checked shards beside it."""
