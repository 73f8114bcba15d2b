"""The page: what it is made of, and how that becomes HTML.

Its text and figures lie in the one file: nothing is fetched, so that it may be mailed, archived and opened anywhere.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from quarry.files import write_text

TEMPLATE = Path(__file__).with_name("page.html.jinja")


@dataclass(frozen=True)
class Tile:
    """A number that is seen first. beside: what it must be read with."""

    name: str
    value: str
    beside: str = ""


@dataclass(frozen=True)
class Finding:
    """Something that a reader should know before believing the numbers.

    severity: error (a number is wrong or means nothing), warning (it may), note. evidence: what shows it. remedy: what to
    change, or empty.
    """

    severity: str
    what: str
    evidence: str
    remedy: str = ""


@dataclass(frozen=True)
class Figure:
    """A picture with its caption. svg: its file. wide: whether its panels stand side by side, so that it needs a row."""

    title: str
    svg: Path
    caption: str
    wide: bool = False

    @property
    def source(self) -> str:
        """The picture as a data URI: what is inside cannot clash with another picture, as names in inlined SVG do."""
        return f"data:image/svg+xml;base64,{base64.b64encode(self.svg.read_bytes()).decode()}"


@dataclass(frozen=True)
class Table:
    """Rows of text below the names of their columns."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page. words: paragraphs before what is shown. literal: text as it stands, such as BibTeX."""

    title: str
    words: Sequence[str] = ()
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    findings: Sequence[Finding] = ()
    literal: str = ""

    @property
    def key(self) -> str:
        """Its name in the address."""
        return self.title.lower().replace(" ", "-")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.words or self.figures or self.tables or self.findings or self.literal)


@dataclass(frozen=True)
class Page:
    """The whole page. asked: what the campaign was to do. ended: why it stopped. made: by which versions, and when."""

    title: str
    asked: str
    ended: str
    made: str
    tiles: Sequence[Tile]
    sections: Sequence[Section] = field(default_factory=list)

    def write(self, path: str | Path) -> None:
        """Write the page; the same content gives the same bytes."""
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(TEMPLATE.read_text())
        write_text(path, template.render(page=self, sections=[s for s in self.sections if not s.is_empty]) + "\n")
