"""Sphinx builds these pages into build/site (`make docs`). Nothing is fetched: fonts, search and pictures are local."""

import re
from pathlib import Path

import quarry

ROOT = Path(__file__).parents[1]

project = "Quarry"
author = "Quarry developers"
release = version = quarry.__version__
html_title = f"Quarry {version}"

extensions = ["myst_parser", "sphinx.ext.autodoc"]
# The source is the whole checkout, so that a link from page to page is the same here and where the files are read as they are.
root_doc = "docs/index"
include_patterns = [
    "docs/**.md",
    "benchmarks/README.md",
    "benchmarks/RESULTS.md",
    "config/README.md",
    "profiles/README.md",
    "CHANGELOG.md",
]
exclude_patterns = [".*", "build", "results", "label_store"]

myst_heading_anchors = 4
autoclass_content = "both"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
python_maximum_signature_line_length = 80

html_theme = "furo"
html_extra_path = ["site/index.html"]
html_static_path = ["site/site.css"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False


def escape_docstring(app, what, name, subject, options, lines):
    """Docstrings are plain text with ``code`` in it: nothing else in them is markup."""
    for number, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [re.sub(r"([|*_`])", r"\\\1", part) for part in parts[::2]]
        lines[number] = "``".join(parts)


def setup(app):
    """Let Sphinx ask the function above."""
    app.connect("autodoc-process-docstring", escape_docstring)
