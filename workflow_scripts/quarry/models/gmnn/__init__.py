"""Gaussian-moment neural networks: interatomic potentials."""
