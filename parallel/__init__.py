"""Ranks, layouts, sharding and the training engine."""
