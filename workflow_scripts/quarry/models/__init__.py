"""Models that learn a property from features, and the errors they make."""
