"""Points in a space: distances, and greedy choices among many of them."""
