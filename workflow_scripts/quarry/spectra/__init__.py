"""Absorption spectra by the nuclear-ensemble approach, and which excited state is which."""
