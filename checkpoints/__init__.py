"""Committing, verifying and retaining training state."""
