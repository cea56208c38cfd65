"""The sandbox that model-written programs run in.

    reader.py    (jailed) does it compile, and may tier 1 judge it?
    monty.py     (jailed) tier 1: an interpreter with no host access, behind the reader
    dialect.py   (jailed) what tier 1 is known to run exactly like CPython
    jail.py      parent side of the jailed processes: starts, asks, restarts and ends them
    entry.py     (jailed) where those processes start, and the watcher outside each of them
    zygote.py    (jailed) tier 2: one forked CPython per program, watched and ended
    seeds.py     (jailed) random numbers follow from the program's text
    program.py   (jailed) what a forked child does: run, reduce the result to text
    lockdown.py  namespaces, mounts, Landlock, capabilities, resource limits
    seccomp.py   the system calls that stay allowed
    channel.py   framed messages between the parent and a jailed process

Modules marked jailed run in the sandbox's own processes and import nothing heavy. The kernel
enforces the boundary: nothing here relies on checks in Python to contain a program. No gold
answer appears in this package.
"""
