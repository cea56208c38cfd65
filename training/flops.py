"""Matmul parameters and floating-point operations of a model, from its config alone."""

from training.config import ModelConfig


def block_matmul_parameters(model: ModelConfig) -> int:
    """Parameters of one block's matrices, without biases and norms.

    Counted from the shape, since a rank may hold only its shard of the weights.
    """
    # Queries and output, keys and values; a gated feed-forward network has a third matrix.
    heads = 2 * (model.num_heads + model.num_key_value_heads)
    matrices = 2 if model.architecture == "phi" else 3
    return model.hidden_size * (heads * model.head_dim + matrices * model.ffn_size)


def head_matmul_parameters(model: ModelConfig) -> int:
    """Parameters of the head's matrix, which is applied at supervised tokens only."""
    return model.hidden_size * (1 if model.head == "verifier" else model.vocab_size)


def training_flops(model: ModelConfig, *, tokens: int, supervised: int, keys: int) -> float:
    """Floating-point operations that a step needs: its forward and its backward pass.

    6 per token and matmul parameter of the blocks; 6 per supervised token and matmul parameter
    of the head, which is applied at those only (training/models/heads.py); 12 x layers x heads
    x head_dim per key attended, for the products of queries, keys and values (PaLM, arXiv
    2204.02311, appendix B), with the keys really attended: not the sequence length, and half a
    document for causal attention. The embedding is a lookup, padding is not counted, nor is
    recomputation.

    Args:
        model: The shape.
        tokens: Without padding.
        supervised: Tokens that enter the loss.
        keys: Pairs of a token and a key that it attends to.
    """
    blocks = model.num_layers * block_matmul_parameters(model)
    attention = 12.0 * model.num_layers * model.num_heads * model.head_dim * keys
    head = head_matmul_parameters(model)
    return 6.0 * blocks * tokens + 6.0 * head * supervised + attention
