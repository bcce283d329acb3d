"""An embedded Kafka with a second listener, on which it demands TLS in both directions and a password."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

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


class Authority:
    """Signs certificates, its own first; all of them are good for a day."""

    def __init__(self, name: str) -> None:
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._signed(self._name, self._key.public_key(), is_authority=True)

    def write(self, path: Path) -> None:
        """The certificate alone: what others trust."""
        path.write_bytes(self.certificate.public_bytes(Encoding.PEM))

    def issue(self, path: Path, name: str) -> None:
        """A new key and its certificate, in one file, for a program on this machine."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._signed(subject, key.public_key(), is_authority=False)
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        path.write_bytes(private + certificate.public_bytes(Encoding.PEM))

    def _signed(self, subject: x509.Name, key: ec.EllipticCurvePublicKey, *, is_authority: bool) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        return (
            x509.CertificateBuilder(self._name, subject, key, x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(here, critical=False)
            .sign(self._key, hashes.SHA256())
        )


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
    authority = Authority("fedlog tests")
    authority.write(folder / "authority.pem")
    authority.issue(folder / "broker.pem", "broker")
    authority.issue(folder / "client.pem", USER)
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
