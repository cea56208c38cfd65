"""TinyGSM at full size: written, prepared with execution, checked, trained on for a few steps.

    python -m tests.bench.twelve_million WORK --tokenizer FOLDER --gsm8k FOLDER
    python -m tests.bench.twelve_million WORK … --kills 5      again, with kills: the same bytes

The data is the stand-in of `tests.bench.stand_in`. Every step is a process of its own, whose time,
CPU time and memory are recorded over all its attempts. A stopped run is continued by the same
command.
"""
