"""Which engine a configuration asks for. Imports are lazy: a function engine never imports PySCF."""

from __future__ import annotations

from pathlib import Path

from quarry.config.labeling import FunctionLabeling, LabelResources, PyscfLabeling
from quarry.labeling.engines.base import Engine


def make_engine(
    labeling: PyscfLabeling | FunctionLabeling, base: str | Path = ".", resources: LabelResources | None = None
) -> Engine:
    """Return the engine of the configuration's section ``labeling``.

    base: folder of the campaign file, for the files that the section names. resources: what a label job has (MPI tasks
    and memory, for engines that start a program); those of the configuration's defaults when not given.
    """
    if isinstance(labeling, FunctionLabeling):
        from quarry.labeling.engines.function import FunctionEngine

        return FunctionEngine(labeling.function, labeling.arguments)
    from quarry.labeling.engines.pyscf_engine import PyscfEngine

    return PyscfEngine(labeling.method)
