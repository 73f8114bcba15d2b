"""What whoever takes the data set must know and only its author can say."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from quarry.config.base import Form, Section

License = Annotated[
    str,
    Form(
        r"^[A-Za-z0-9][A-Za-z0-9.+-]*( (AND|OR|WITH) [A-Za-z0-9][A-Za-z0-9.+-]*)*$",
        "must be a licence's SPDX identifier (spdx.org/licenses), e.g. CC-BY-4.0, CC0-1.0 or ODbL-1.0",
    ),
]
Orcid = Annotated[str, Form(r"^(\d{4}-){3}\d{3}[\dX]$", "must be an ORCID like 0000-0002-1825-0097")]


class Creator(Section):
    """Who made the data set."""

    name: str = Field(min_length=1)
    """Name as it is cited."""
    orcid: Orcid | None = None
    """ORCID, e.g. 0000-0002-1825-0097."""
    affiliation: str | None = None
    """Where the creator works."""


class DatasetCard(Section):
    """What dataset_card.md and ro-crate-metadata.json say beside what Quarry knows. May be changed at any time."""

    title: str | None = None
    """Title of the data set; null: made of the campaign's name."""
    description: str | None = None
    """What it is for, in sentences of your own."""
    license: License | None = None
    """Licence of the data: an SPDX identifier such as CC-BY-4.0. null: the card says that none is stated, and nobody but you may
    use the data."""
    creators: list[Creator] = []
    """Who made it."""
    cite: str | None = None
    """What to cite: a sentence or a DOI."""
