"""Which engine a configuration asks for. Imports are lazy: a function engine never imports PySCF."""

from __future__ import annotations

from quarry.config.labeling import FunctionLabeling, PyscfLabeling
from quarry.labeling.engines.base import Engine


def make_engine(labeling: PyscfLabeling | FunctionLabeling) -> Engine:
    """Return the engine of the configuration's section ``labeling``."""
    if isinstance(labeling, FunctionLabeling):
        from quarry.labeling.engines.function import FunctionEngine

        return FunctionEngine(labeling.function, labeling.arguments)
    from quarry.labeling.engines.pyscf_engine import PyscfEngine

    return PyscfEngine(labeling.method)
