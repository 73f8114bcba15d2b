"""The data set as an RO-Crate (version 1.1): metadata that archives and other programs read.

S. Soiland-Reyes et al., Data Science 5, 97 (2022), https://w3id.org/ro/crate/1.1
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from quarry import __version__
from quarry.product.campaign_data import CampaignData
from quarry.product.card import ProductFile, description_of, level_of_theory, title_of
from quarry.properties import PROPERTIES

SPDX = "https://spdx.org/licenses/"
CODE = "https://schema.org/"
KINDS = {
    ".extxyz": "chemical/x-xyz",
    ".h5": "application/x-hdf5",
    ".csv": "text/csv",
    ".md": "text/markdown",
    ".json": "application/json",
}
"""Media types by the end of a file's name."""
METADATA = "ro-crate-metadata.json"


def crate_of(data: CampaignData, files: Sequence[ProductFile]) -> dict[str, Any]:
    """Return the crate as JSON-LD. files: of the product; the metadata file itself is none of them."""
    manifest, settings = data.manifest, data.settings
    day = str(manifest.get("created", ""))[:10]
    license_id, license_entities = _license(settings.get("license"))
    people = [_person(number, creator) for number, creator in enumerate(settings.get("creators", []), 1)]
    variables = [_variable(name) for name in data.labelled.properties]
    software = {
        "@id": "#quarry",
        "@type": "SoftwareApplication",
        "name": "Quarry",
        "version": str(manifest.get("quarry", __version__)),
        "description": "Active-learning labeling campaigns for computational chemistry",
    }
    root = {
        "@id": "./",
        "@type": "Dataset",
        "name": title_of(data),
        "description": description_of(data),
        "identifier": str(manifest["campaign_id"]),
        "dateCreated": day,
        "datePublished": day,
        "license": license_id,
        "measurementTechnique": level_of_theory(manifest),
        "variableMeasured": _references(variables),
        "hasPart": [{"@id": file.name} for file in files],
    }
    if people:
        root["creator"] = _references(people)
    if settings.get("cite"):
        root["citation"] = settings["cite"]
    action = {
        "@id": "#campaign",
        "@type": "CreateAction",
        "name": f"Labeling campaign {data.root.resolve().name}",
        "instrument": {"@id": "#quarry"},
        "result": {"@id": "./"},
        "startTime": str(manifest.get("created", "")),
    }
    descriptor = {
        "@id": METADATA,
        "@type": "CreativeWork",
        "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
        "about": {"@id": "./"},
    }
    parts = [_file(file) for file in files]
    graph = [descriptor, root, *parts, software, action, *variables, *people, *license_entities]
    # The checksum is a term of schema.org that the context of version 1.1 does not have yet.
    return {"@context": ["https://w3id.org/ro/crate/1.1/context", {"sha256": f"{CODE}sha256"}], "@graph": graph}


def _references(entities: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    return [{"@id": entity["@id"]} for entity in entities]


def _license(name: str | None) -> tuple[Any, list[dict[str, Any]]]:
    """Return what the crate says of its licence, and the entity that it names."""
    if not name:
        return "none stated", []
    if " " in name:
        return name, []
    entity = {"@id": f"{SPDX}{name}", "@type": "CreativeWork", "name": name, "url": f"{SPDX}{name}.html"}
    return {"@id": entity["@id"]}, [entity]


def _person(number: int, creator: dict[str, Any]) -> dict[str, Any]:
    name = f"https://orcid.org/{creator['orcid']}" if creator.get("orcid") else f"#creator-{number}"
    more = {"affiliation": creator["affiliation"]} if creator.get("affiliation") else {}
    return {"@id": name, "@type": "Person", "name": creator["name"], **more}


def _variable(name: str) -> dict[str, Any]:
    entry = PROPERTIES[name]
    return {
        "@id": f"#{name}",
        "@type": "PropertyValue",
        "name": name,
        "unitText": entry.unit,
        "description": entry.meaning or name,
    }


def _file(file: ProductFile) -> dict[str, Any]:
    [ending] = re.findall(r"\.\w+$", file.name)
    return {
        "@id": file.name,
        "@type": "File",
        "name": file.name,
        "description": file.words,
        "encodingFormat": KINDS[ending],
        "contentSize": str(file.size),
        "sha256": file.sha256,
    }
