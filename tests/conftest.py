"""What holds for every test."""

import signal

# A shell that starts us in the background has us ignore Ctrl-C, and what is ignored is
# inherited by every process that a test starts and then interrupts.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
