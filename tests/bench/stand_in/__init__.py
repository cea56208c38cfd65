"""A full-size stand-in for TinyGSM: rows in its exact form, written without a language model.

    python -m tests.bench.stand_in OUT --rows 12_300_000 --shards 17 --seed 1 --workers 2

Each row is a pure function of the seed and of its number (`rows.py`), so any number of workers
writes the same shards, and a stopped run continues with the shards that are missing.
"""
