"""Inference sources: files, streams, URLs, arrays, opened by one function."""
