"""The walls around programs nobody has read.

    reader.py    (jailed) does it compile, and may tier 1 judge it?
    monty.py     (jailed) tier 1: an interpreter with no host access, behind the reader
    dialect.py   (jailed) what tier 1 is known to run exactly like CPython
    jail.py      parent side of the jailed processes: start, ask, restart, end
    entry.py     (jailed) where those processes start, and the watcher outside of each
    zygote.py    (jailed) tier 2: one forked CPython per program, watched and ended
    seeds.py     (jailed) random numbers follow from the program's text
    program.py   (jailed) what a forked child does: run, reduce the result to text
    lockdown.py  namespaces, mounts, Landlock, capabilities, resource limits
    seccomp.py   the system calls that are left
    channel.py   framed messages between the parent and a jailed process

What is marked jailed runs in the sandbox's own processes and imports nothing heavy.
The boundary is the kernel's: nothing here relies on Python-level checks to hold a program.
Gold answers appear nowhere in this package.
"""
