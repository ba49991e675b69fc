"""The bill of materials of an artefact, in CycloneDX: what is in it, of which version, under which licence, with which digest.

The rule: it is made of what was collected (``contents.json``), not of what was wished for, and is the same for the same artefact.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL

from deploy.binary import contents
from vmcp import __version__

VERSION = SchemaVersion.V1_6
_LICENCES = LicenseFactory()
Known = Mapping[str, str]


def make(artefact: Path, found: Path, target: Path) -> None:
    """Write it."""
    known = json.loads(found.read_text("utf-8"))
    sha256 = hashlib.sha256(artefact.read_bytes()).hexdigest()
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_OID, sha256))
    bom.metadata.timestamp = datetime.fromtimestamp(contents.epoch(), UTC)
    bom.metadata.component = _whole(sha256, known["glibc"])
    parts = {each["name"]: _part(each) for each in _named(known)}
    for file in known["files"]:
        parts[file["of"]].components.add(_file(file))
    for part in parts.values():
        bom.components.add(part)
    bom.register_dependency(bom.metadata.component, parts.values())
    text = make_outputter(bom, OutputFormat.JSON, VERSION).output_as_string(indent=1)
    target.write_text(text + "\n", "utf-8")


def _named(known: Mapping[str, Any]) -> Iterator[Known]:
    for each in known["packages"]:
        yield {**each, "purl": str(PackageURL("pypi", name=each["name"], version=each["version"]))}
    for each in known["libraries"]:
        yield {**each, "purl": str(PackageURL("generic", name=each["name"], version=each["version"] or None))}


def _whole(sha256: str, glibc: str) -> Component:
    whole = Component(
        name="vmcp",
        version=__version__,
        type=ComponentType.APPLICATION,
        bom_ref="vmcp",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        properties=[Property(name="vmcp:glibc", value=glibc)],
    )
    commit = contents.commit()
    if commit is not None:
        whole.properties.add(Property(name="vmcp:commit", value=commit))
    return whole


def _part(each: Known) -> Component:
    return Component(
        name=each["name"],
        version=each["version"] or None,
        type=ComponentType.LIBRARY,
        bom_ref=each["purl"],
        purl=PackageURL.from_string(each["purl"]),
        licenses=[_LICENCES.make_from_string(each["licence"])],
    )


def _file(file: Known) -> Component:
    return Component(
        name=file["name"],
        type=ComponentType.FILE,
        bom_ref=f"file:{file['name']}",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=file["sha256"])],
    )
