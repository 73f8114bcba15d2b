"""Engines: sources of labels. ``registry.make_engine`` chooses one; importing this package imports no engine."""
