"""What lies in ``deploy/``, read as those read it for whom it is.

Rule: nothing is run here; what Kustomize and Helm make of their sources lies in ``rendered/``, each with the digest of what it
was made from (``render.py``).
"""

import hashlib
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
RENDERED = Path(__file__).with_name("rendered")
SOURCES = {
    "base": ["kubernetes/base"],
    "production": ["kubernetes"],
    "helm-default": ["helm/vmcp"],
    "helm-full": ["helm/vmcp"],
}
Data = dict[str, Any]


def documents(path: Path) -> list[Data]:
    """All documents of a YAML file."""
    return [found for found in YAML(typ="safe", pure=True).load_all(path.read_text("utf-8")) if found is not None]


def document(path: Path) -> Data:
    (found,) = documents(path)
    return found


def digest(name: str) -> str:
    """Of everything that ``name`` is made from."""
    made = hashlib.sha256()
    folders = [DEPLOY / each for each in SOURCES[name]]
    extra = [Path(__file__).with_name("full-values.yaml")] if name == "helm-full" else []
    for path in [*(each for folder in folders for each in sorted(folder.rglob("*")) if each.is_file()), *extra]:
        content = path.read_bytes()
        made.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return made.hexdigest()


def rendered(name: str) -> list[Data]:
    return documents(RENDERED / f"{name}.yaml")


def of_kind(found: list[Data], kind: str) -> Data:
    (one,) = [each for each in found if each["kind"] == kind]
    return one


def dockerfile(path: Path) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in whole.splitlines() if line.strip()]


def unit(path: Path) -> list[tuple[str, str, str]]:
    """Section, key and value of every setting of a unit."""
    section, found = "", []
    for line in path.read_text("utf-8").splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and line[0] not in "#;":
            key, _, value = line.partition("=")
            found.append((section, key, value))
    return found


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every command of vmcp that a file in ``deploy/`` runs, without its first word, and which file that is."""
    yield from _of_units()
    yield from _of_images()
    for name in SOURCES:
        for container in of_kind(rendered(name), "Deployment")["spec"]["template"]["spec"]["containers"]:
            yield name, container["args"]
    for step in document(DEPLOY / "action" / "action.yml")["runs"]["steps"]:
        for line in re.findall(r"^ *vmcp (.*?)(?: > .*| \|\| .*)?$", step.get("run", ""), re.MULTILINE):
            yield f"action: {step['name']}", shlex.split(line.replace('"${options[@]}"', ""))
    for hook in document_list(ROOT / ".pre-commit-hooks.yaml"):
        yield f"pre-commit: {hook['id']}", [*shlex.split(hook["entry"])[1:], "vmcp.yaml", "other/vmcp.yaml"]


def _of_units() -> Iterator[tuple[str, list[str]]]:
    for path in sorted((DEPLOY / "systemd").glob("*.service")):
        for _, key, value in unit(path):
            if key.startswith("ExecStart") and "vmcp" in value:
                yield path.name, shlex.split(value)[1:]


def _of_images() -> Iterator[tuple[str, list[str]]]:
    words: list[str] = []
    for name, value in dockerfile(DEPLOY / "docker" / "Dockerfile"):
        if name == "HEALTHCHECK":
            yield "Dockerfile HEALTHCHECK", json.loads(value[value.index("[") :])[1:]
        elif name == "ENTRYPOINT":
            words = json.loads(value)
        elif name == "CMD":
            yield "Dockerfile", [*words, *json.loads(value)][1:]


def document_list(path: Path) -> list[Data]:
    (found,) = YAML(typ="safe", pure=True).load_all(path.read_text("utf-8"))
    return list(found)
