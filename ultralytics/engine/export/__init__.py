"""Export with a parity check, and benchmarks of the exported forms."""
