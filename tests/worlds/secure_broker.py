"""An embedded Kafka with a second listener, on which it demands TLS in both directions and a password."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from ops.doors.authority import CertificateAuthority, LeafRequest
from ops.processes import broker
from streams.kafka.settings import KafkaSettings

USER, PASSWORD = "ada", "correct horse battery"
# Later lines win; the first listener stays for the broker itself and for whoever makes the users.
LISTENER = """\
listeners=CLIENTS://127.0.0.1:{{port}},SECURE://127.0.0.1:{secure},CONTROLLER://127.0.0.1:{{controller_port}}
advertised.listeners=CLIENTS://127.0.0.1:{{port}},SECURE://127.0.0.1:{secure}
listener.security.protocol.map=CLIENTS:SASL_PLAINTEXT,SECURE:SASL_SSL,CONTROLLER:SASL_PLAINTEXT
listener.name.secure.sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-512
listener.name.secure.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.secure.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.secure.ssl.client.auth=required
listener.name.secure.ssl.keystore.type=PEM
listener.name.secure.ssl.keystore.location={folder}/broker.pem
listener.name.secure.ssl.truststore.type=PEM
listener.name.secure.ssl.truststore.location={folder}/authority.pem
"""


@dataclass(frozen=True, slots=True)
class Secure:
    """How to get in: the port, and the folder with `authority.pem` and `client.pem`."""

    port: int
    folder: Path

    def settings(self, mechanism: str) -> KafkaSettings:
        """What a client needs that has everything."""
        client = str(self.folder / "client.pem")
        return KafkaSettings(
            bootstrap_servers=f"127.0.0.1:{self.port}",
            topic_prefix="secure",
            security_protocol="SASL_SSL",
            sasl_mechanism=mechanism,
            sasl_username=USER,
            sasl_password=PASSWORD,
            ssl_cafile=str(self.folder / "authority.pem"),
            ssl_certfile=client,
            ssl_keyfile=client,
        )


@contextlib.contextmanager
def secure_broker(folder: Path) -> Iterator[Secure]:
    """The broker, for the length of a `with` block; its data and all certificates are in `folder`."""
    authority = CertificateAuthority.create(folder / "ca")
    (folder / "authority.pem").write_bytes(authority.certificate.read_bytes())
    for request in (
        LeafRequest(name="broker", hosts=["127.0.0.1"]),
        LeafRequest(name="client", usages=["client"]),
    ):
        (folder / f"{request.name}.pem").write_bytes(authority.issue(request).join())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listener = LISTENER.format(secure=port, folder=folder, user=USER, password=PASSWORD)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(broker, "_SETTINGS", broker._SETTINGS + listener)
        with broker.run_embedded(folder / "kafka") as running:
            admin = KafkaAdminClient(**KafkaSettings(**running.connection).client())
            try:
                user = UserScramCredentialUpsertion(USER, ScramMechanism.SCRAM_SHA_512, PASSWORD)
                assert admin.alter_user_scram_credentials([user]) == {USER: None}
            finally:
                admin.close()
            yield Secure(port, folder)
