"""What a network costs: layer tables, parameters, FLOPs, activation memory, the layer graph."""
