"""A stop rule for campaigns that learn forces beside energies (docs/stopping.md)."""


def forces_below(progress, rmse_eV_A):
    """Stop when the root mean square error of the force components of the test set is below a limit."""
    found = progress.last.errors.get("test", {}).get("forces_rmse")
    if found is None or found >= rmse_eV_A:
        return None
    return f"the forces' RMSE {found:.3f} eV/Angstrom is below {rmse_eV_A:g}"
