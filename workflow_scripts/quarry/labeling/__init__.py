"""Labels: engines, records, the store."""
