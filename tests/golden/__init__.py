"""Golden numbers and the code that compares with them."""
