"""Does on a Kafka what Strimzi's operators would: users with their rights, and topics."""

# pyright: reportPrivateImportUsage=false

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.kubernetes.manifests import of_kind

PROPERTIES = {
    "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
    "super.users": "User:ANONYMOUS",  # Who comes by the listener that asks for no password.
}
_TYPES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
}
_PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}
_OPERATIONS = {
    "Read": AclOperation.READ,
    "Write": AclOperation.WRITE,
    "Describe": AclOperation.DESCRIBE,
    "DescribeConfigs": AclOperation.DESCRIBE_CONFIGS,
}


def password_of(user: str) -> str:
    return f"password-of-{user}"


def grant(admin: str) -> None:
    """Make the users of the manifests, each with what it may do."""
    client = AdminClient({"bootstrap.servers": admin, "log_level": 0})
    users = of_kind("KafkaUser")
    how = ScramCredentialInfo(ScramMechanism.SCRAM_SHA_512, 4096)
    made = client.alter_user_scram_credentials(
        [UserScramCredentialUpsertion(user, how, password_of(user).encode()) for user in users]
    )
    allowed = client.create_acls(
        [
            AclBinding(
                _TYPES[rule["resource"]["type"]],
                rule["resource"]["name"],
                _PATTERNS[rule["resource"].get("patternType", "literal")],
                f"User:{user}",
                "*",
                _OPERATIONS[operation],
                AclPermissionType.ALLOW,
            )
            for user, resource in users.items()
            for rule in resource["spec"]["authorization"]["acls"]
            for operation in rule["operations"]
        ]
    )
    for future in [*made.values(), *allowed.values()]:
        future.result(30)


def make_topics(admin: str, partitions: int) -> None:
    """Make the topics of the manifests, on one broker and with fewer partitions."""
    client = AdminClient({"bootstrap.servers": admin, "log_level": 0})
    topics = [
        NewTopic(
            resource["spec"].get("topicName", name),
            num_partitions=min(partitions, resource["spec"]["partitions"]),
            replication_factor=1,
            config={k: str(v) for k, v in resource["spec"]["config"].items()}
            | {"min.insync.replicas": "1"},
        )
        for name, resource in of_kind("KafkaTopic").items()
    ]
    for future in client.create_topics(topics).values():
        future.result(30)
