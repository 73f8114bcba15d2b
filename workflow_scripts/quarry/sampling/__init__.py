"""Candidates from physics: normal modes of a molecule and their Wigner distribution."""
