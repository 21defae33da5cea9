"""The examples for containers, without an engine: their own parsers and schemas, and our commands.

The configurations in them are loaded, and the commands in them are parsed, as the program does.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dockerfile
import kubernetes_validate
import pytest
import yaml
from compose_spec import PyCompose

from tunmesh.cli import main
from tunmesh.config import Config, load_config, resolve_secrets

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
MANIFESTS = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
#: The oldest with sidecars that are init containers, and the newest that the checker knows.
VERSIONS = ("1.29.0", kubernetes_validate.latest_version())
SECRET = "a-secret-for-tests-0123456789abcdefghijkl"

COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text())
STEPS = dockerfile.parse_file(str(DEPLOY / "docker" / "Dockerfile"))


def documents() -> Iterator[dict[str, Any]]:
    for path in MANIFESTS:
        yield from yaml.safe_load_all(path.read_text())


def pods() -> Iterator[dict[str, Any]]:
    for document in documents():
        if "template" in document.get("spec", {}):
            yield document["spec"]["template"]["spec"]


def loaded(text: str, environ: Mapping[str, str], directory: Path) -> Config:
    """The configuration, complete, with its secret."""
    path = directory / "tunmesh.toml"
    path.write_text(text)
    config = load_config(str(path), environ=environ, complete=True)
    assert config.mesh.secret_file or resolve_secrets(config, environ)[0] == [SECRET.encode()]
    return config


def expect_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """See that the program takes the arguments: with one more, its help, it does not complain."""
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0, capsys.readouterr().err


# Docker


def test_the_dockerfile_copies_what_there_is() -> None:
    stages = {step.value[2] for step in STEPS if step.cmd == "FROM" and len(step.value) > 1}
    for step in STEPS:
        if step.cmd == "COPY":
            assert (ROOT / step.value[0]).exists()
        for stage in re.findall(r"from=(\w+)", " ".join(step.flags)):
            assert stage in stages


def test_the_commands_of_the_image(capsys: pytest.CaptureFixture[str]) -> None:
    values = {step.cmd: list(step.value) for step in STEPS}
    expect_command([*values["ENTRYPOINT"][1:], *values["CMD"]], capsys)
    health = values["HEALTHCHECK"]
    expect_command(health[health.index("tunmesh") + 1 :], capsys)
    user = re.search(r"TUNMESH_USER:-(\d+)", (DEPLOY / "docker" / "tunmesh.toml").read_text())
    assert user
    assert f"--reuid={user[1]}" in health


@pytest.mark.long  # a minute, and it asks the package registry
@pytest.mark.timeout(300)
def test_the_build_steps_work(tmp_path: Path) -> None:
    wheels, prefix = tmp_path / "wheels", tmp_path / "opt"
    python = {"python": sys.executable, "/wheels": str(wheels), "/opt/tunmesh": str(prefix)}
    for step in STEPS:
        if step.cmd == "RUN":
            (line,) = step.value
            line = re.sub(
                r"(?<![\w/-])python(?= -m)|/wheels|/opt/tunmesh",
                lambda found: python[found[0]],
                line,
            )
            subprocess.run(["/bin/sh", "-ec", line], cwd=ROOT, check=True)
    done = subprocess.run(
        [prefix / "bin" / "tunmesh", "plugins", "--json"],
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        check=True,
    )
    states = {plugin["name"]: plugin["state"] for plugin in json.loads(done.stdout)["plugins"]}
    assert states.keys() == {"tun_linux", "ifaddr", "udp", "https", "igmp"}
    assert set(states.values()) <= {"available", "active"}


def test_compose_is_valid() -> None:
    compose = PyCompose.from_json(json.dumps(COMPOSE))
    compose.validate()
    services = COMPOSE["services"]
    for service in services.values():
        mode = service.get("network_mode", "")
        assert not mode or mode.removeprefix("service:") in services
        assert set(service.get("depends_on", ())) <= services.keys()


def test_a_typo_in_compose_is_found() -> None:
    broken = json.loads(json.dumps(COMPOSE))
    broken["services"]["app-a"]["kommand"] = "true"
    with pytest.raises(ValueError, match="kommand"):
        PyCompose.from_json(json.dumps(broken))


def test_the_nodes_of_compose(tmp_path: Path) -> None:
    text = (DEPLOY / "docker" / "tunmesh.toml").read_text()
    nodes = {name: x for name, x in COMPOSE["services"].items() if name.startswith("node-")}
    addresses = set()
    for name, service in nodes.items():
        config = loaded(text, service["environment"], tmp_path)
        addresses |= set(map(str, config.node.addresses))
        (url,) = config.bootstrap["seeds"].urls
        seed = re.fullmatch(r"udp://([\w-]+):4567", url)
        assert seed
        assert seed[1] in nodes.keys() - {name}
        assert config.mesh.secret_file == f"/run/secrets/{service['secrets'][0]}"
    assert len(addresses) == len(nodes)


def test_the_image_without_an_environment(tmp_path: Path) -> None:
    text = (DEPLOY / "docker" / "tunmesh.toml").read_text()
    assert loaded(text, {"TUNMESH_SECRET": SECRET}, tmp_path).node.user == "65532"


# Kubernetes


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_valid(version: str) -> None:
    kinds = []
    for document in documents():
        kubernetes_validate.validate(document, version, strict=True)
        kinds.append(document["kind"])
    assert sorted(kinds) == ["ConfigMap", "Deployment", "Service", "StatefulSet"]


def test_a_typo_in_a_manifest_is_found() -> None:
    (pod, *_) = (document for document in documents() if document["kind"] == "Deployment")
    pod["spec"]["template"]["spec"]["initContainers"][0]["imagePullPolice"] = "Never"
    with pytest.raises(kubernetes_validate.ValidationError, match="imagePullPolice"):
        kubernetes_validate.validate(pod, VERSIONS[-1], strict=True)


def test_what_manifests_refer_to_exists() -> None:
    named = {document["kind"]: document["metadata"]["name"] for document in documents()}
    (service,) = (x for x in documents() if x["kind"] == "Service")
    ports = {(x["port"], x["protocol"]) for x in service["spec"]["ports"]}
    for document in documents():
        if "template" not in document.get("spec", {}):
            continue
        template = document["spec"]["template"]
        labels = template["metadata"]["labels"].items()
        assert document["spec"]["selector"]["matchLabels"].items() <= labels
        assert service["spec"]["selector"].items() <= labels
        volumes = {x["name"]: x for x in template["spec"]["volumes"]}
        assert volumes["configuration"]["configMap"]["name"] == named["ConfigMap"]
        for container in template["spec"]["initContainers"]:
            assert {x["name"] for x in container["volumeMounts"]} <= volumes.keys()
            own = {(x["containerPort"], x["protocol"]) for x in container.get("ports", ())}
            assert not own or own == ports


def test_the_commands_of_the_manifests(capsys: pytest.CaptureFixture[str]) -> None:
    for pod in pods():
        for container in pod["initContainers"]:
            expect_command(container["args"], capsys)
            for probe in ("startupProbe", "livenessProbe"):
                command = container.get(probe, {"exec": {"command": ["tunmesh", "status"]}})
                words = command["exec"]["command"]
                expect_command(words[words.index("tunmesh") + 1 :], capsys)


def test_the_configuration_of_the_manifests(tmp_path: Path) -> None:
    (shared,) = (x["data"]["tunmesh.toml"] for x in documents() if x["kind"] == "ConfigMap")
    (service,) = (x["metadata"]["name"] for x in documents() if x["kind"] == "Service")
    for pod in pods():
        (node,) = (x for x in pod["initContainers"] if x["name"] == "node")
        environ = {x["name"]: x.get("value", SECRET) for x in node["env"]}
        if "TUNMESH_ADDRESS" in environ:
            environ["TUNMESH_ADDRESS"] = environ["TUNMESH_ADDRESS"].replace("$(POD_INDEX)", "2")
        config = loaded(shared, environ, tmp_path)
        assert config.bootstrap["seeds"].urls == (f"udp://{service}:4567",)


def test_one_pod_has_no_capability_at_run_time() -> None:
    added = [
        {x["name"]: x["securityContext"]["capabilities"].get("add", []) for x in containers}
        for pod in pods()
        for containers in [[*pod["initContainers"], *pod["containers"]]]
    ]
    needed = COMPOSE["x-node"]["cap_add"]
    assert {"node": needed, "program": []} in added
    assert {"device": ["NET_ADMIN"], "node": [], "program": []} in added
