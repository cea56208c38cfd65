"""Ranks, layouts, the engine, and whole weights out of sharded ones."""
