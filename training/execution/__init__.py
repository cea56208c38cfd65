"""Runs model-written programs in a sandbox and compares their results with gold answers."""
