"""Sampling, executing, scoring, selecting and reporting."""
