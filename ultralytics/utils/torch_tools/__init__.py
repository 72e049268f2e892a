"""Parts of `torch_utils`, which re-exports what the interface names (EMA, early stopping, FLOPs), meta tensors, array types."""
