"""Checks of the nodes of a job and of the links between them, before the ranks start."""
