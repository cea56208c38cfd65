"""The model in plain torch, its heads, its cache, its Hugging Face names."""
