"""The manifests: Kubernetes and the operators take them; they fit the program and each other."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jsonschema_rs
import kubernetes_validate
import pytest
from pydantic import SecretStr

from orderstream.flow import PROGRAMS, SERVICES, flow
from orderstream.notification import dispatch
from orderstream.runtime import background, server
from orderstream.runtime.admin import RECORD_BYTES_MAX
from orderstream.runtime.keys import new_key
from orderstream.runtime.settings import Settings
from tests.kubernetes.manifests import FOLDER, Pod, Resource, of_kind, pods, rendered
from tests.kubernetes.shapes import SHAPES

# From the first that has preStop's `sleep` to the newest whose schemas can be had.
VERSIONS = ("1.30", "1.37")
WORKERS = ("inventory", "view", "notification", "analytics")  # Those that read the log.
# Requests under way; then the stage, and the channels with what they are sending.
STOP_S = server.STOP_TIMEOUT_S + background.STOP_TIMEOUT_S + 2 * dispatch.STOP_TIMEOUT_S


def secrets() -> dict[tuple[str, str], str]:
    """What is there before the services are: an operator of Kubernetes' made it, or a person."""
    made = {
        (
            "orderstream-db-app",
            "uri",
        ): "postgresql://orderstream:x@orderstream-db-rw:5432/orderstream",
        ("orderstream-keys", "entries"): str(new_key("desk", "operator")[1]),
    }
    return made | {(user, "password"): "x" for user in of_kind("KafkaUser")}


@pytest.fixture
def container_root(tmp_path: Path) -> Path:
    """What stands for a container's root, with the two files that are mounted."""
    for name in ("kafka", "postgres"):
        (tmp_path / "etc/orderstream" / name).mkdir(parents=True)
        (tmp_path / "etc/orderstream" / name / "ca.crt").touch()
    return tmp_path


def settings_of(pod: Pod, root: Path, ordinal: int = 0) -> Settings:
    return Settings.load(pod.environment(secrets(), ordinal, root))


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    chosen = selector.get("matchLabels", {}).items() <= labels.items()
    return chosen and all(
        labels.get(rule["key"]) in rule["values"] for rule in selector.get("matchExpressions", ())
    )


class TestShape:
    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize("folder", ["everything", "migrate"])
    def test_of_kubernetes_own_kinds(self, folder: str, version: str) -> None:
        own = [r for r in rendered(folder) if r["kind"] not in SHAPES]
        assert own
        for resource in own:
            kubernetes_validate.validate(resource, version, strict=True)

    @pytest.mark.parametrize("kind", SHAPES)
    def test_of_the_operators_kinds(self, kind: str) -> None:
        found = of_kind(kind)
        assert found
        for resource in found.values():
            jsonschema_rs.validate(SHAPES[kind], resource)

    def test_is_refused_with_a_slip_in_it(self) -> None:
        deployment = of_kind("Deployment")["order"]
        slip = deployment | {"spec": deployment["spec"] | {"replica": 3}}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(slip, VERSIONS[0], strict=True)

    def test_is_in_one_namespace(self) -> None:
        kinds = {r["kind"] for r in rendered("everything") if "namespace" not in r["metadata"]}
        assert kinds == {"Namespace"}
        assert set(of_kind("Namespace")) == {"orderstream"}


class TestPods:
    def test_are_the_programs(self) -> None:
        assert set(pods()) == set(PROGRAMS)
        for name, pod in pods().items():
            assert pod.container["command"] == ["orderstream", "serve", name]
            assert pod.kind == ("StatefulSet" if name in WORKERS else "Deployment")

    @pytest.mark.parametrize("folder", ["everything", "migrate"])
    def test_may_do_nothing_that_they_need_not(self, folder: str) -> None:
        for pod in pods(folder).values():
            whole, own = pod.spec["securityContext"], pod.container["securityContext"]
            assert whole["runAsNonRoot"]
            assert whole["runAsUser"] > 0
            assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
            assert own["capabilities"] == {"drop": ["ALL"]}
            assert own["readOnlyRootFilesystem"]
            assert not own["allowPrivilegeEscalation"]
            assert not pod.spec["automountServiceAccountToken"]
            assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod.spec)
            assert all("secret" in volume or "emptyDir" in volume for volume in pod.spec["volumes"])

    def test_are_given_time_to_stop(self) -> None:
        for pod in pods().values():
            before = pod.container["lifecycle"]["preStop"]["sleep"]["seconds"]
            assert pod.spec["terminationGracePeriodSeconds"] > before + STOP_S

    def test_have_a_bound_on_memory(self) -> None:
        for pod in pods().values():
            assert set(pod.container["resources"]) == {"requests", "limits"}
            assert "memory" in pod.container["resources"]["limits"]

    def test_each_is_reached_and_kept_up(self) -> None:
        services, budgets = of_kind("Service"), of_kind("PodDisruptionBudget")
        assert set(services) == set(budgets) == set(pods())
        for name, pod in pods().items():
            assert [port["port"] for port in services[name]["spec"]["ports"]] == [pod.port]
            for selector in (
                {"matchLabels": services[name]["spec"]["selector"]},
                budgets[name]["spec"]["selector"],
            ):
                assert [n for n, p in pods().items() if selects(selector, p.labels)] == [name]


class TestSettings:
    def test_each_service_starts_with_them(self, container_root: Path) -> None:
        for name, pod in pods().items():
            settings = settings_of(pod, container_root)
            assert settings.port(name) == pod.port
            assert settings.host == "0.0.0.0"
            assert settings.kafka_sasl_username == f"orderstream-{name}"
            assert settings.drill_sku == ""

    def test_no_two_workers_have_one_number(self, container_root: Path) -> None:
        for name in WORKERS:
            numbers = [settings_of(pods()[name], container_root, n).worker for n in range(3)]
            assert numbers == [0, 1, 2]

    def test_every_service_finds_every_other(self, container_root: Path) -> None:
        settings = settings_of(pods()["console"], container_root)
        for name, service in of_kind("Service").items():
            (port,) = service["spec"]["ports"]
            assert settings.address(name) == f"http://{name}:{port['port']}"

    def test_no_secret_stands_in_the_manifests(self) -> None:
        fields = Settings.model_fields.values()
        secret = {
            str(f.validation_alias) for f in fields if SecretStr.__name__ in str(f.annotation)
        }
        assert {"DATABASE_URL", "ORDERSTREAM_API_KEYS", "ORDERSTREAM_WEBHOOK_SECRET"} <= secret
        for pod in pods().values():
            assert not {name for name, value in pod.variables() if value is not None} & secret
        assert not of_kind("Secret")

    def test_a_secret_is_told_to_who_needs_it(self) -> None:
        for name, pod in pods().items():
            refs = [v.get("valueFrom", {}).get("secretKeyRef") for v in pod.container["env"]]
            names = {ref["name"] for ref in refs if ref}
            assert {n for n in names if n in of_kind("KafkaUser")} == {f"orderstream-{name}"}
            assert ("orderstream-channels" in names) == (name == "notification")


class TestServers:
    def test_kafka_has_every_topic(self, container_root: Path) -> None:
        settings = settings_of(pods()["order"], container_root)
        topics = {
            r["spec"].get("topicName", name): r["spec"] for name, r in of_kind("KafkaTopic").items()
        }
        assert set(topics) == {*settings.topics.all(), settings.topic_audit}
        for name, topic in topics.items():
            one = name == settings.topic_audit
            assert topic["partitions"] == (1 if one else settings.partitions)
            assert topic["config"]["max.message.bytes"] == RECORD_BYTES_MAX
            compacted = topic["config"].get("cleanup.policy") == "compact"
            assert compacted == (name in settings.topics.compacted)
            assert topic["config"]["min.insync.replicas"] < topic["replicas"]

    def test_they_are_where_the_services_look_for_them(self, container_root: Path) -> None:
        settings = settings_of(pods()["order"], container_root)
        (cluster,) = of_kind("Kafka")
        (listener,) = of_kind("Kafka")[cluster]["spec"]["kafka"]["listeners"]
        address = f"{cluster}-kafka-bootstrap:{listener['port']}"
        assert settings.kafka_bootstrap_servers == address
        assert settings.kafka_sasl_mechanism == listener["authentication"]["type"].upper()
        assert {
            r["metadata"]["labels"]["strimzi.io/cluster"]
            for kind in ("KafkaNodePool", "KafkaTopic", "KafkaUser")
            for r in of_kind(kind).values()
        } == {cluster}
        (database,) = of_kind("Cluster")
        used = {v["secret"]["secretName"] for p in pods().values() for v in p.spec["volumes"][:2]}
        assert used == {f"{cluster}-cluster-ca-cert", f"{database}-ca"}

    def test_the_database_takes_all_connections(self) -> None:
        # Of the pool, the migrations, and the consumers that the console looks for: one each; the
        # order service has two pools, and a third where it refuses orders at the door.
        most = {name: 1 for name in PROGRAMS}
        most |= {name: r["spec"]["maxReplicaCount"] for name, r in of_kind("ScaledObject").items()}
        most["order"] = of_kind("HorizontalPodAutoscaler")["order"]["spec"]["maxReplicas"]
        pool = Settings.load({}).database_pool
        wanted = sum(most[name] * (pool + 2) for name in PROGRAMS) + most["order"] * (pool + 2)
        for cluster in of_kind("Cluster").values():
            parameters = cluster["spec"]["postgresql"]["parameters"]
            assert int(parameters["max_connections"]) >= 1.2 * wanted  # The operator has some.


class TestScaling:
    def test_goes_by_the_lag_of_each_group(self, container_root: Path) -> None:
        scaled = of_kind("ScaledObject")
        assert set(scaled) == set(WORKERS)
        for name, resource in scaled.items():
            settings, spec = settings_of(pods()[name], container_root), resource["spec"]
            (trigger,) = (t["metadata"] for t in spec["triggers"])
            assert trigger["consumerGroup"] == settings.group(name)
            host, _, port = str(settings.kafka_bootstrap_servers).partition(":")
            assert trigger["bootstrapServers"] == f"{host}.orderstream:{port}"
            assert trigger["offsetResetPolicy"] == settings.kafka_auto_offset_reset
            assert spec["maxReplicaCount"] <= settings.partitions
            # Markers of transactions at the ends of partitions count as lag for ever.
            markers = 2 * len(settings.topics.all()) * settings.partitions
            assert int(trigger["lagThreshold"]) > 5 * markers

    def test_nobody_else_says_how_many(self) -> None:
        replicas = {
            name
            for kind in ("Deployment", "StatefulSet")
            for name, r in of_kind(kind).items()
            if "replicas" in r["spec"]
        }
        assert replicas == {"console"}

    def test_signs_in_as_a_user_that_may_look(self) -> None:
        (signing,) = of_kind("TriggerAuthentication").values()
        given = {r["parameter"]: r for k in signing["spec"].values() for r in k}
        username = of_kind("ConfigMap")[given["username"]["name"]]["data"]["username"]
        assert given["password"]["name"] == username
        assert {op for _, ops in rules(of_kind("KafkaUser")[username]) for op in ops} == {
            "Describe"
        }


def rules(user: Resource) -> Iterable[tuple[Mapping[str, str], list[str]]]:
    for rule in user["spec"]["authorization"]["acls"]:
        yield rule["resource"], rule["operations"]


class TestRights:
    def test_of_the_parts_of_the_flow_are_what_the_flow_says(self, container_root: Path) -> None:
        steps = {s.service: s for s in flow(settings_of(pods()["order"], container_root).topics)}
        for name in WORKERS:
            reads, writes = set[str](), set[str]()
            for resource, operations in rules(of_kind("KafkaUser")[f"orderstream-{name}"]):
                if resource["type"] == "topic":
                    reads |= {resource["name"]} if "Read" in operations else set()
                    writes |= {resource["name"]} if "Write" in operations else set()
                elif resource["name"] == "orderstream-":  # Of all groups: where they are.
                    assert resource["type"] == "group"
                    assert operations == ["Describe"]
                else:
                    assert resource["name"].removesuffix("-") == f"orderstream-{name}"
            assert (reads, writes) == (set(steps[name].reads), set(steps[name].writes))

    def test_nobody_may_create_change_or_delete(self) -> None:
        for user in of_kind("KafkaUser").values():
            allowed = {op for _, operations in rules(user) for op in operations}
            assert allowed <= {"Read", "Write", "Describe", "DescribeConfigs"}


class TestNetwork:
    def test_nothing_passes_that_no_rule_lets_through(self) -> None:
        nothing = of_kind("NetworkPolicy")["nothing"]["spec"]
        assert set(nothing) == {"podSelector", "policyTypes"}
        assert nothing["policyTypes"] == ["Ingress", "Egress"]
        for pod in [*pods().values(), *pods("migrate").values()]:
            assert selects(nothing["podSelector"], pod.labels)

    def test_every_pod_reaches_kafka_and_postgresql(self) -> None:
        out = of_kind("NetworkPolicy")["servers"]["spec"]
        listeners = of_kind("Kafka")["orderstream-kafka"]["spec"]["kafka"]["listeners"]
        ports = {port["port"] for rule in out["egress"] for port in rule["ports"]}
        assert ports == {53, 5432, *(listener["port"] for listener in listeners)}
        for pod in [*pods().values(), *pods("migrate").values()]:
            assert selects(out["podSelector"], pod.labels)

    def test_the_console_reaches_every_service(self) -> None:
        (out,) = of_kind("NetworkPolicy")["console"]["spec"]["egress"]
        (ports,) = out["ports"]
        (into,) = of_kind("NetworkPolicy")["from-console"]["spec"]["ingress"]
        for name in SERVICES:
            assert ports["port"] <= pods()[name].port <= ports["endPort"]
            assert selects(out["to"][0]["podSelector"], pods()[name].labels)
        assert selects(into["from"][0]["podSelector"], pods()["console"].labels)

    def test_only_messages_leave_for_the_internet(self) -> None:
        out = {
            name
            for name, policy in of_kind("NetworkPolicy").items()
            for rule in policy["spec"].get("egress", ())
            for to in rule["to"]
            if "ipBlock" in to
        }
        assert out == {"messages"}
        selector = of_kind("NetworkPolicy")["messages"]["spec"]["podSelector"]
        assert [n for n, p in pods().items() if selects(selector, p.labels)] == ["notification"]


class TestFolder:
    def test_every_file_is_used(self) -> None:
        """A manifest that no kustomization names is applied by nobody."""
        for folder in (path.parent for path in FOLDER.glob("*/kustomization.yaml")):
            said = (folder / "kustomization.yaml").read_text()
            for file in folder.iterdir():
                assert file.name == "kustomization.yaml" or file.name in said, file
