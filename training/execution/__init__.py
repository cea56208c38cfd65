"""Running programs that nobody has read: executor, judge, sandbox."""
