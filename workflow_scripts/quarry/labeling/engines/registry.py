"""The engine that a configuration asks for. Imports are lazy: no engine imports the libraries of another one."""

from __future__ import annotations

from pathlib import Path

from quarry.config.engines.base import LabelingBase
from quarry.config.engines.registry import ENGINES
from quarry.config.resources import LabelResources
from quarry.imports import named
from quarry.labeling.engines.base import Engine


def make_engine(labeling: LabelingBase, base: str | Path = ".", resources: LabelResources | None = None) -> Engine:
    """Return the engine of the configuration's section ``labeling``.

    base: folder of the campaign file, for the files that the section names. resources: what a label job has (MPI tasks
    and memory, for engines that start a program); those of the configuration's defaults when not given. Raises QuarryError
    if the engine cannot be made.
    """
    kind: type[Engine] = named(ENGINES[labeling.engine].engine)
    return kind.of(labeling, Path(base), resources or LabelResources())
