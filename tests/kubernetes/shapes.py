"""What a resource of an operator's may look like: of its fields, those that we use.

Kubernetes' own kinds have schemas that can be had as a package; those of Strimzi, CloudNativePG and
KEDA cannot. These say less than the operators do: names and types, no rule that joins two fields.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
NUMBER: Schema = {"type": "integer"}
SWITCH: Schema = {"type": "boolean"}
SIZE: Schema = {"type": "string", "pattern": "^[1-9][0-9]*[GMT]i$"}
LABELS: Schema = {"type": "object", "additionalProperties": TEXT}
VALUES: Schema = {
    "type": "object",
    "additionalProperties": {"type": ["string", "integer", "boolean"]},
}


def one_of(*values: str) -> Schema:
    return {"enum": list(values)}


def listed(item: Schema, least: int = 1) -> Schema:
    return {"type": "array", "items": item, "minItems": least}


def record(needed: dict[str, Schema], **optional: Schema) -> Schema:
    return {
        "type": "object",
        "properties": needed | optional,
        "required": list(needed),
        "additionalProperties": False,
    }


def _resource(version: str, spec: Schema) -> Schema:
    metadata = record({"name": TEXT, "namespace": TEXT}, labels=LABELS)
    return record(
        {"apiVersion": {"const": version}, "kind": TEXT, "metadata": metadata, "spec": spec}
    )


_RESOURCES = record({"requests": VALUES, "limits": VALUES})
_SCRAM = record({"type": {"const": "scram-sha-512"}})
_SELECTOR = record({"matchLabels": LABELS})
_SECRETS = listed(record({"parameter": TEXT, "name": TEXT, "key": TEXT}))

_KAFKA = "kafka.strimzi.io/v1"
_KEDA = "keda.sh/v1alpha1"

SHAPES: dict[str, Schema] = {
    "Kafka": _resource(
        _KAFKA,
        record(
            {
                "kafka": record(
                    {
                        "version": TEXT,
                        "metadataVersion": TEXT,
                        "rack": record({"type": {"const": "topology-label"}, "topologyKey": TEXT}),
                        "listeners": listed(
                            record(
                                {
                                    "name": {"type": "string", "pattern": "^[a-z0-9]{1,11}$"},
                                    "port": NUMBER | {"minimum": 9092},
                                    "type": one_of("internal"),
                                    "tls": SWITCH,
                                },
                                authentication=_SCRAM,
                                networkPolicyPeers=listed(
                                    record({}, podSelector=_SELECTOR, namespaceSelector=_SELECTOR)
                                ),
                            )
                        ),
                        "authorization": record({"type": {"const": "simple"}}),
                        "config": VALUES,
                    }
                ),
                "entityOperator": record({"topicOperator": record({}), "userOperator": record({})}),
            }
        ),
    ),
    "KafkaNodePool": _resource(
        _KAFKA,
        record(
            {
                "replicas": NUMBER,
                "roles": listed(one_of("broker", "controller")),
                "resources": _RESOURCES,
                "jvmOptions": record({"-Xms": TEXT, "-Xmx": TEXT}),
                "storage": record(
                    {
                        "type": {"const": "jbod"},
                        "volumes": listed(
                            record(
                                {"id": NUMBER, "type": {"const": "persistent-claim"}, "size": SIZE},
                                kraftMetadata={"const": "shared"},
                                deleteClaim=SWITCH,
                            )
                        ),
                    }
                ),
            }
        ),
    ),
    "KafkaTopic": _resource(
        _KAFKA,
        record({"partitions": NUMBER, "replicas": NUMBER, "config": VALUES}, topicName=TEXT),
    ),
    "KafkaUser": _resource(
        _KAFKA,
        record(
            {
                "authentication": _SCRAM,
                "authorization": record(
                    {
                        "type": {"const": "simple"},
                        "acls": listed(
                            record(
                                {
                                    "resource": record(
                                        {
                                            "type": one_of("topic", "group", "transactionalId"),
                                            "name": TEXT,
                                        },
                                        patternType=one_of("literal", "prefix"),
                                    ),
                                    "operations": listed(
                                        one_of("Read", "Write", "Describe", "DescribeConfigs")
                                    ),
                                }
                            )
                        ),
                    }
                ),
            }
        ),
    ),
    "Cluster": _resource(
        "postgresql.cnpg.io/v1",
        record(
            {
                "instances": NUMBER,
                "bootstrap": record(
                    {
                        "initdb": record(
                            {"database": TEXT, "owner": TEXT, "postInitSQL": listed(TEXT)}
                        )
                    }
                ),
                "postgresql": record(
                    {
                        "synchronous": record(
                            {
                                "method": one_of("any", "first"),
                                "number": NUMBER,
                                "dataDurability": one_of("required", "preferred"),
                                "failoverQuorum": SWITCH,
                            }
                        ),
                        "parameters": LABELS,
                    }
                ),
                "resources": _RESOURCES,
                "storage": record({"size": SIZE}),
                "walStorage": record({"size": SIZE}),
            }
        ),
    ),
    "TriggerAuthentication": _resource(
        _KEDA, record({"secretTargetRef": _SECRETS, "configMapTargetRef": _SECRETS})
    ),
    "ScaledObject": _resource(
        _KEDA,
        record(
            {
                "scaleTargetRef": record(
                    {
                        "apiVersion": {"const": "apps/v1"},
                        "kind": {"const": "StatefulSet"},
                        "name": TEXT,
                    }
                ),
                "minReplicaCount": NUMBER,
                "maxReplicaCount": NUMBER,
                "advanced": record(
                    {
                        "horizontalPodAutoscalerConfig": record(
                            {"behavior": record({"scaleDown": {"type": "object"}})}
                        )
                    }
                ),
                "triggers": listed(
                    record(
                        {
                            "type": {"const": "kafka"},
                            "metadata": record(
                                {
                                    "bootstrapServers": TEXT,
                                    "consumerGroup": TEXT,
                                    "lagThreshold": {"type": "string", "pattern": "^[0-9]+$"},
                                    "offsetResetPolicy": one_of("earliest", "latest"),
                                    "sasl": {"const": "scram_sha512"},
                                    "tls": {"const": "enable"},
                                }
                            ),
                            "authenticationRef": record({"name": TEXT}),
                        }
                    )
                ),
            }
        ),
    ),
}
