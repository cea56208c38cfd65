"""Metrics, tracking, progress."""
