"""The manifests of deploy/kubernetes as `kubectl apply -k` would send them."""

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
WORKLOADS = ("Deployment", "StatefulSet", "Job")

Resource = dict[str, Any]


@cache
def rendered(folder: str) -> tuple[Resource, ...]:
    """Return the resources of a folder; skip without kubectl, or fail in CI."""
    if shutil.which("kubectl") is None:
        said = "needs kubectl: https://kubernetes.io/docs/tasks/tools"
        if os.environ.get("CI") == "true":
            pytest.fail(said)
        pytest.skip(said)
    done = subprocess.run(
        ["kubectl", "kustomize", str(FOLDER / folder)], capture_output=True, timeout=60, check=True
    )
    return tuple(yaml.safe_load_all(done.stdout))


def of_kind(kind: str, folder: str = "everything") -> dict[str, Resource]:
    """Return the resources of one kind by name."""
    return {r["metadata"]["name"]: r for r in rendered(folder) if r["kind"] == kind}


@dataclass(frozen=True)
class Pod:
    """A workload's pod: what it is told, and what it runs."""

    kind: str
    name: str
    labels: Mapping[str, str]
    spec: Resource

    @property
    def container(self) -> Resource:
        (only,) = self.spec["containers"]
        return only

    @property
    def port(self) -> int:
        (only,) = self.container["ports"]
        return only["containerPort"]

    def variables(self) -> Iterator[tuple[str, str | None]]:
        """Give each variable with its value, None for one that does not stand in the manifests."""
        settings = of_kind("ConfigMap")
        for source in self.container.get("envFrom", ()):
            yield from settings[source["configMapRef"]["name"]]["data"].items()
        for variable in self.container["env"]:
            yield variable["name"], variable.get("value")

    def environment(
        self, secrets: Mapping[tuple[str, str], str], ordinal: int, files: Path
    ) -> dict[str, str]:
        """Return what the process would find in its environment.

        `secrets` by name and key; `files` is the folder that stands for the container's root.
        """
        found = {name: value for name, value in self.variables() if value is not None}
        for variable in self.container["env"]:
            if (source := variable.get("valueFrom")) is None:
                continue
            if (field := source.get("fieldRef")) is not None:
                assert field["fieldPath"] == "metadata.labels['apps.kubernetes.io/pod-index']"
                assert self.kind == "StatefulSet"  # Of no other has a pod this label.
                found[variable["name"]] = str(ordinal)
            else:
                wanted = source["secretKeyRef"]
                at = (wanted["name"], wanted["key"])
                if at in secrets or not wanted.get("optional"):
                    found[variable["name"]] = secrets[at]
        mounts = [mount["mountPath"] for mount in self.container["volumeMounts"]]
        return {
            name: f"{files}{value}" if value.startswith(tuple(f"{m}/" for m in mounts)) else value
            for name, value in found.items()
        }


def pods(folder: str = "everything") -> dict[str, Pod]:
    """Return the pods by the name of their workload."""
    return {
        name: Pod(
            kind, name, (template := r["spec"]["template"])["metadata"]["labels"], template["spec"]
        )
        for kind in WORKLOADS
        for name, r in of_kind(kind, folder).items()
    }
