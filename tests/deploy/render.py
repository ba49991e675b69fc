"""Makes ``rendered/`` anew: ``python -m tests.deploy.render`` with kubectl and helm on the PATH, after a change of their sources.

Rule: the tools alone decide what comes out; the first line says what it was made from.
"""

import subprocess
import sys
from pathlib import Path

from tests.deploy.manifests import DEPLOY, RENDERED, SOURCES, digest

KUBERNETES = "1.33"


def made(name: str) -> str:
    """What the tools make of the sources."""
    chart = ["helm", "template", "--kube-version", KUBERNETES]
    command = {
        "base": ["kubectl", "kustomize", DEPLOY / "kubernetes" / "base"],
        "production": ["kubectl", "kustomize", DEPLOY / "kubernetes" / "overlays" / "production"],
        "helm-default": [*chart, "vmcp", DEPLOY / "helm" / "vmcp", "--namespace", "vmcp"],
        "helm-full": [
            *chart,
            *("gateway", DEPLOY / "helm" / "vmcp", "--namespace", "tools"),
            *("--values", Path(__file__).with_name("full-values.yaml")),
        ],
    }[name]
    text = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    return f"# {digest(name)}\n{text.rstrip()}\n"


if __name__ == "__main__":
    for each in SOURCES:
        (RENDERED / f"{each}.yaml").write_text(made(each), "utf-8")
        sys.stdout.write(f"{each}\n")
