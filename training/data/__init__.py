"""From problems to rows of tokens."""
