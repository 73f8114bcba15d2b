"""Which engine a configuration asks for. Imports are lazy: no engine imports the libraries of another one."""

from __future__ import annotations

from pathlib import Path

from quarry.config.engines import AseLabeling, CommandLabeling, ReplayLabeling
from quarry.config.labeling import FunctionLabeling, LabelResources, PyscfLabeling
from quarry.labeling.engines.base import Engine


def make_engine(
    labeling: PyscfLabeling | AseLabeling | CommandLabeling | ReplayLabeling | FunctionLabeling,
    base: str | Path = ".",
    resources: LabelResources | None = None,
) -> Engine:
    """Return the engine of the configuration's section ``labeling``.

    base: folder of the campaign file, for the files that the section names. resources: what a label job has (MPI tasks
    and memory, for engines that start a program); those of the configuration's defaults when not given.
    """
    if isinstance(labeling, FunctionLabeling):
        from quarry.labeling.engines.function import FunctionEngine

        return FunctionEngine(labeling.function, labeling.arguments)
    if isinstance(labeling, AseLabeling):
        from quarry.labeling.engines.ase_engine import AseEngine

        return AseEngine(labeling, base)
    if isinstance(labeling, CommandLabeling):
        from quarry.labeling.engines.command import CommandEngine

        return CommandEngine(labeling, base, resources)
    if isinstance(labeling, ReplayLabeling):
        from quarry.labeling.engines.replay import ReplayEngine

        return ReplayEngine(labeling, base)
    from quarry.labeling.engines.pyscf_engine import PyscfEngine

    return PyscfEngine(labeling.method, labeling.recovery, labeling.stability, labeling.look_for_instabilities)
