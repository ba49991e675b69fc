"""What is in ``deploy/``: it hangs together, gives away no right without need, and calls vmcp as vmcp wants to be called.

Rule: plain checks that need no tool; ``test_linters.py`` has the tools.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
from click.testing import CliRunner

from tests.deploy.manifests import (
    DEPLOY,
    RENDERED,
    ROOT,
    SOURCES,
    Data,
    commands,
    digest,
    dockerfile,
    document,
    document_list,
    documents,
    of_kind,
    rendered,
    unit,
)
from vmcp import __version__
from vmcp.cli import main
from vmcp.cli.validate import command as validate
from vmcp.config.model import Limits, ServerSpec
from vmcp.server.app import METRICS, PROBES

NAMES = {"app.kubernetes.io/name": "vmcp"}
CONFIGS = [*DEPLOY.rglob("vmcp.yaml")]
CLUSTERS = pytest.mark.parametrize("name", SOURCES)


def config_of(found: list[Data]) -> str:
    text: str = of_kind(found, "ConfigMap")["data"]["vmcp.yaml"]
    return text


def pod_of(found: list[Data]) -> Data:
    pod: Data = of_kind(found, "Deployment")["spec"]["template"]
    return pod


def fits(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    return bool(wanted) and wanted.items() <= labels.items()


@pytest.mark.parametrize(("where", "words"), [*commands()], ids=lambda value: str(value)[:40])
def test_every_command_is_one_of_vmcp(where: str, words: list[str]) -> None:
    """Click reads it as it would before it runs it."""
    name, *rest = words
    context = click.Context(main)
    found = main.get_command(context, name)
    assert found is not None, where
    found.make_context(name, rest, parent=context)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.parent.name)
def test_every_configuration_is_good(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    checked = CliRunner().invoke(validate, [str(path)])
    assert checked.exit_code == 0, checked.output
    first = path.read_text("utf-8").splitlines()[0]
    schema = re.fullmatch(r"# yaml-language-server: \$schema=(.*)", first)
    assert schema is not None
    assert (path.parent / schema[1]).resolve() == ROOT / "schemas" / "vmcp.schema.json"


# --- Kubernetes and Helm


@CLUSTERS
def test_what_was_rendered_is_of_these_sources(name: str) -> None:
    first = (RENDERED / f"{name}.yaml").read_text("utf-8").splitlines()[0]
    assert first == f"# {digest(name)}", "run python -m tests.deploy.render, and look at the difference"


@CLUSTERS
def test_its_configuration_is_good(name: str, tmp_path: Path) -> None:
    (tmp_path / "vmcp.yaml").write_text(config_of(rendered(name)))
    checked = CliRunner().invoke(validate, ["--strict", str(tmp_path / "vmcp.yaml")])
    assert checked.exit_code == 0, checked.output


@CLUSTERS
def test_a_pod_may_do_nothing_that_it_need_not(name: str) -> None:
    spec = pod_of(rendered(name))["spec"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 65532
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = spec["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert "cpu" not in container["resources"]["limits"], "a limit of CPU makes a pod slow while the node is idle"


@CLUSTERS
def test_names_of_a_pod_are_those_that_others_mean(name: str) -> None:
    found = rendered(name)
    pod, service = pod_of(found), of_kind(found, "Service")
    labels = pod["metadata"]["labels"]
    (container,) = pod["spec"]["containers"]
    (port,) = container["ports"]
    assert fits(labels, of_kind(found, "Deployment")["spec"]["selector"]["matchLabels"])
    assert fits(labels, service["spec"]["selector"])
    assert fits(labels, of_kind(found, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"])
    assert fits(labels, of_kind(found, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"])
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert of_kind(found, "NetworkPolicy")["spec"]["ingress"][0]["ports"][0]["port"] == port["name"]
    given = re.search(r"^ *port: (\d+)$", config_of(found), re.MULTILINE)
    assert port["containerPort"] == (int(given[1]) if given else ServerSpec().port)
    volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == set(volumes)
    assert not any("subPath" in mount for mount in container["volumeMounts"]), "it would never see a change"
    assert volumes["config"]["configMap"]["name"] == of_kind(found, "ConfigMap")["metadata"]["name"]
    assert pod["spec"]["serviceAccountName"] == of_kind(found, "ServiceAccount")["metadata"]["name"]


@CLUSTERS
def test_probes_ask_what_is_served_and_an_end_has_its_time(name: str) -> None:
    (container,) = pod_of(rendered(name))["spec"]["containers"]
    paths = {key: container[key]["httpGet"]["path"] for key in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert paths == {"startupProbe": "/readyz", "readinessProbe": "/readyz", "livenessProbe": "/livez"}
    assert {path.encode() for path in paths.values()} <= PROBES
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pod_of(rendered(name))["spec"]["terminationGracePeriodSeconds"]
    assert grace > pause + Limits().shutdown_grace


@pytest.mark.parametrize("name", ["production", "helm-full"])
def test_who_scales_and_scrapes_means_this_deployment(name: str) -> None:
    found = rendered(name)
    deployment, service = of_kind(found, "Deployment"), of_kind(found, "Service")
    scaled = of_kind(found, "HorizontalPodAutoscaler")["spec"]
    assert scaled["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"], "two would decide how many there are"
    assert (pod_of(found)["spec"]["containers"][0]["resources"]["requests"])["cpu"]
    monitor = of_kind(found, "ServiceMonitor")["spec"]
    assert fits(service["metadata"]["labels"], monitor["selector"]["matchLabels"])
    (endpoint,) = monitor["endpoints"]
    assert endpoint["path"].encode() == METRICS
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert "enablePrometheusMetricsPath: true" in config_of(found)


def test_the_values_of_the_chart_fit_their_schema_and_others_do_not() -> None:
    chart = DEPLOY / "helm" / "vmcp"
    schema = document(chart / "values.schema.json")
    jsonschema.Draft7Validator.check_schema(schema)
    check = jsonschema.Draft7Validator(schema)
    values = document(chart / "values.yaml")
    check.validate(values)
    assert set(values) == set(schema["properties"]) - {"global"}, "each is described"
    wrong: list[dict[str, Any]] = [
        {"replica": 2},
        {"replicas": 0},
        {"service": {"port": "x"}},
        {"config": {"name": "x"}},
    ]
    for given in wrong:
        assert not check.is_valid({**values, **given}), given
    facts = document(chart / "Chart.yaml")
    assert facts["version"] == facts["appVersion"] == __version__


def test_images_and_packages_have_the_version_of_vmcp() -> None:
    assert pod_of(rendered("base"))["spec"]["containers"][0]["image"] == f"vmcp:{__version__}"
    assert pod_of(rendered("production"))["spec"]["containers"][0]["image"].endswith(f":{__version__}")
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]["vmcp"]


# --- Docker and Compose


def stages(path: Path) -> dict[str, list[tuple[str, str]]]:
    found: dict[str, list[tuple[str, str]]] = {}
    for name, value in dockerfile(path):
        if name == "FROM":
            found[value.rpartition(" AS ")[2]] = []
        if found:
            found[[*found][-1]].append((name, value))
    return found


@pytest.mark.parametrize("stage", ["tools", "vmcp"])
def test_an_image_runs_as_nobody_and_says_how_it_is(stage: str) -> None:
    told = dict(stages(DEPLOY / "docker" / "Dockerfile")[stage])
    assert told["USER"] == "65532:65532"
    assert '["vmcp", "health", "--quiet"]' in told["HEALTHCHECK"]
    assert told["ENTRYPOINT"] == '["vmcp"]'
    assert told["EXPOSE"] == str(ServerSpec().port)


def test_the_last_stage_is_the_small_one_and_every_source_is_there() -> None:
    path = DEPLOY / "docker" / "Dockerfile"
    assert [*stages(path)][-1] == "vmcp"
    assert all(":" in value or value.startswith("scratch") for name, value in dockerfile(path) if name == "FROM")
    kept = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text().split("\n")
    for needed in ("build.py", "pyproject.toml", "requirements", "schemas", "vmcp", "deploy/binary", "deploy/docker"):
        assert f"!{needed}" in kept
        assert (ROOT / needed).exists()
    assert (DEPLOY / "docker" / "rootfs").stat().st_mode & 0o111


def test_compose_has_nothing_that_it_does_not_say() -> None:
    found = document(DEPLOY / "compose" / "compose.yaml")
    assert found["services"].keys() == {"identity", "vmcp"}, "no Redis: nothing of vmcp would use it"
    for service in found["services"].values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
    gateway = found["services"]["vmcp"]
    assert (DEPLOY / "compose" / gateway["build"]["context"] / gateway["build"]["dockerfile"]).is_file()
    assert int(gateway["stop_grace_period"].rstrip("s")) > Limits().shutdown_grace
    assert found["configs"]["vmcp.yaml"]["file"] == "vmcp.yaml"
    assert all(port.startswith("127.0.0.1:") for port in found["services"]["identity"]["ports"])
    (secret,) = gateway["secrets"]
    assert f"/run/secrets/{secret}" in (DEPLOY / "compose" / "vmcp.yaml").read_text()


# --- systemd, and what runs in pipelines


def test_the_units_are_those_that_the_command_prints() -> None:
    folder = DEPLOY / "systemd"
    for options, name in ((["--program", "/usr/local/bin/vmcp"], "vmcp.service"), (["--socket"], "vmcp.socket")):
        printed = CliRunner().invoke(main, ["service", "print", *options])
        assert printed.exit_code == 0
        assert printed.output == (folder / name).read_text("utf-8"), name
    facts = {key: value for _, key, value in unit(folder / "vmcp.service")}
    assert facts["Type"] == "notify-reload"
    assert set(facts["RestartPreventExitStatus"].split()) == {"2", "66", "73", "77", "78"}
    assert dict(unit(folder / "vmcp.socket")[i][1:] for i in range(2, 6))["ListenStream"] == "127.0.0.1:4483"
    credential = {key: value for _, key, value in unit(folder / "vmcp.service.d" / "credentials.conf")}[
        "LoadCredential"
    ]
    assert f"/{credential.partition(':')[0]}" in (folder / "vmcp.yaml").read_text()


def test_the_hook_of_pre_commit_finds_configurations_and_nothing_else() -> None:
    (hook,) = document_list(ROOT / ".pre-commit-hooks.yaml")
    for path in ("vmcp.yaml", "a/b/vmcp.yml", "vmcp-prod.yaml", "x/vmcp.test.yaml"):
        assert re.search(hook["files"], path), path
    for path in ("values.yaml", "myvmcp.yaml", "vmcp/deployment.yaml", "vmcp.yaml.bak", "vmcp.lock"):
        assert not re.search(hook["files"], path), path


def test_no_manifest_is_left_out_of_a_kustomization() -> None:
    for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        said = document(path)
        named = {*said.get("resources", []), *(patch["path"] for patch in said.get("patches", []))}
        named |= {file for made in said.get("configMapGenerator", []) for file in made["files"]}
        there = {each.name for each in path.parent.glob("*.yaml")} - {"kustomization.yaml"}
        assert there == {name for name in named if not name.startswith("..")}, path
        assert all(documents(path.parent / name) for name in there)
