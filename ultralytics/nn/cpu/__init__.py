"""The fast path of inference on a CPU."""
