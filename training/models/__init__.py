"""Models in plain torch: blocks, heads, attention, key-value cache, Hugging Face weights."""
