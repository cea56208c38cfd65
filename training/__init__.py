"""Training a generator and its verifier: config, loop, data, models, evaluation."""
