"""Interatomic potentials of other packages, a file for each: energies, forces and features of atoms."""
