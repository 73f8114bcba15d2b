"""Descriptors: fixed-length numbers for each structure (``quarry.descriptors.compute.compute_features``)."""
