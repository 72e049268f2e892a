"""Parts of `torch_utils`, which re-exports what the interface names; FLOPs, training, meta tensors, array types."""
