"""Blocks that join maps, and the necks and cross-stage blocks between them."""
