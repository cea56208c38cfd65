"""Prepares data: from questions and programs to packed sequences of tokens on disk."""
