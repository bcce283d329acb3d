"""The embedded broker behind doors: TLS by an authority of our own, SCRAM-SHA-512, and Kafka's own authorizer.

Its folder holds `broker.pem` (key and certificate), `authority.pem`, and in `clients` for each principal NAME.env,
which `set -a; . NAME.env` gives to fedlog, and NAME.properties for Kafka's own tools; all of them 0600. Whether a
folder has doors is decided once: users are made when it is formatted.
"""

from __future__ import annotations

import secrets
import shlex
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from client_agent.files import open_private_folder, write_durably
from ops.broker_state import AUTHORITY_FILE, CLIENTS, USER, has_doors, read_password
from ops.doors.authority import CertificateAuthority, LeafRequest
from ops.doors.rights import RIGHTS

LEAF = "broker"
HOSTS = ("127.0.0.1", "localhost")
DAYS = 365
# A broker that is started now and then shall not be found with a certificate that ends next week.
RENEWED_BELOW = 1 / 3

# Later lines win. Controllers know no SCRAM, so that theirs is PLAIN, in TLS as all else.
_SETTINGS = """\
listener.security.protocol.map=CLIENTS:SASL_SSL,CONTROLLER:SASL_SSL
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.clients.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required username="{user}" password="{password}";
listener.name.controller.sasl.enabled.mechanisms=PLAIN
ssl.keystore.type=PEM
ssl.keystore.location=broker.pem
ssl.truststore.type=PEM
ssl.truststore.location=authority.pem
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=false
super.users=User:{user}
"""

_ENVIRONMENT = """\
FEDLOG_BOOTSTRAP_SERVERS=127.0.0.1:{port}
FEDLOG_SECURITY_PROTOCOL=SASL_SSL
FEDLOG_SASL_MECHANISM=SCRAM-SHA-512
FEDLOG_SASL_USERNAME={name}
FEDLOG_SASL_PASSWORD={password}
FEDLOG_SSL_CAFILE={authority}
"""

_PROPERTIES = """\
bootstrap.servers=127.0.0.1:{port}
security.protocol=SASL_SSL
sasl.mechanism=SCRAM-SHA-512
sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required username="{name}" password="{password}";
ssl.truststore.type=PEM
ssl.truststore.location={authority}
"""


@dataclass(frozen=True, slots=True)
class Doors:
    """Those of the broker in `folder`, which asks the authority of the same deployment for its certificate."""

    folder: Path

    @property
    def authority(self) -> Path:
        """What clients trust."""
        return self.folder / AUTHORITY_FILE

    def prepare(self, *, port: int, password: str) -> str:
        """Make what is missing: authority, certificate, passwords. The settings of this start, after all others.

        Raises AuthorityUnfit.
        """
        self._certify()
        # This folder says from now on that there are doors: no later start goes without.
        open_private_folder(self.folder / CLIENTS)
        for name in (USER, *RIGHTS):
            own = password if name == USER else read_password(self.folder, name) or secrets.token_urlsafe(24)
            told, place = {"port": port, "name": name, "password": own}, str(self.authority.absolute())
            # Anew each time, because the port may be another.
            for ending, text, trusted in (
                ("env", _ENVIRONMENT, shlex.quote(place)),
                ("properties", _PROPERTIES, _escape(place)),
            ):
                data = text.format(**told, authority=trusted).encode()
                write_durably(self.folder / CLIENTS / f"{name}.{ending}", data, synced=False)
        return _SETTINGS.format(user=USER, password=password)

    def list_users(self) -> list[str]:
        """What Kafka's tool takes when it formats the folder: each principal with its password."""
        users = {name: read_password(self.folder, name) for name in (USER, *RIGHTS)}
        words = [["--add-scram", f"SCRAM-SHA-512=[name={name},password={own}]"] for name, own in users.items()]
        return [word for pair in words for word in pair]

    def list_passwords(self) -> dict[str, str]:
        """The password of each principal of the table, for a broker that was formatted before it had one."""
        return {name: read_password(self.folder, name) for name in RIGHTS}

    def _certify(self) -> None:
        authority = self._open_authority()
        # Under that name somebody may have renewed it, or issued one with more hosts.
        found = next((leaf for leaf in authority.list_leaves() if leaf.name == LEAF), None)
        if found is None:
            found = authority.issue(LeafRequest(name=LEAF, hosts=HOSTS, days=DAYS))
        certificate = found.read()
        lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        if certificate.not_valid_after_utc - datetime.now(UTC) < lasts * RENEWED_BELOW:
            found = authority.renew(LEAF)
        self._write(found.join())

    def _open_authority(self) -> CertificateAuthority:
        place = self.folder.parent / "ca"
        authority = CertificateAuthority(place) if place.exists() else CertificateAuthority.create(place)
        write_durably(self.authority, authority.certificate.read_bytes(), synced=False)
        return authority

    def _write(self, pair: bytes) -> None:
        write_durably(self.folder / "broker.pem", pair, synced=False)


def _escape(text: str) -> str:
    """As Java's properties have it: ASCII, and a backslash doubled."""
    return "".join(c if " " <= c <= "~" and c != "\\" else f"\\u{ord(c):04x}" for c in text)


def find_doors(folder: Path, *, secure: bool) -> Doors | None:
    """The doors of a broker's folder, where it has some or shall have."""
    return Doors(folder) if secure or has_doors(folder) else None
