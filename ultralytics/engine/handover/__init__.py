"""What is handed to another machine: a pack of a model with all that belongs to it, and the model card in it."""
