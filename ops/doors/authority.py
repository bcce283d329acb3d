"""An authority of certificates for tests and small sites: it signs for the servers and clients of one deployment.

Its folder holds `authority.pem`, which everybody trusts, `authority.key`, which stays here, and in `issued` a pair of
files for each name: `NAME.pem`, the certificate, and `NAME.key`, its private key. Every folder has mode 0700 and every
file 0600, until you hand one out. Certificates are what RFC 5280 asks of them, P-256 and SHA-256 throughout: the
strictest check of OpenSSL takes them. Nothing revokes one; let them end soon, and renew.
"""

from __future__ import annotations

import contextlib
import ipaddress
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from client_agent.files import open_private_folder, write_durably
from schemas.errors import EXIT_USAGE, FedlogError

CERTIFICATE, KEY, ISSUED = "authority.pem", "authority.key", "issued"
AUTHORITY_DAYS, LEAF_DAYS, DAYS_MAX = 3650, 90, 36_500
# Clocks of other machines may be behind ours.
CLOCKS_DIFFER_BY = timedelta(minutes=5)
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
HOST = re.compile(r"(?:\*\.)?(?=.{1,253}$)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.?)+")
# By what OpenSSL and Java ask for: a key that serves shall open no door, nor the other way round.
USAGES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


class AuthorityUnfit(FedlogError):
    """An authority of certificates cannot do what was asked; the message says why and what to do."""

    exit_code = EXIT_USAGE
    code = "authority_unfit"


class AuthorityExists(AuthorityUnfit):
    """There is an authority, or a certificate of that name, already; neither is ever overwritten."""

    code = "authority_exists"


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafRequest:
    """What a certificate shall say: whom it names, where that one is asked, what for (`USAGES`), for how many days."""

    name: str
    hosts: Sequence[str] = ()
    usages: Sequence[str] = ("server",)
    days: int = LEAF_DAYS


@dataclass(frozen=True, slots=True)
class Leaf:
    """A certificate that was issued, and the file of its private key."""

    certificate: Path
    key: Path

    @property
    def name(self) -> str:
        """Whom it names."""
        return self.certificate.stem

    def read(self) -> x509.Certificate:
        """Raises AuthorityUnfit."""
        return _read_certificate(self.certificate)

    def join(self) -> bytes:
        """Key and certificate in one, as Kafka's brokers take them, and some clients."""
        return self.key.read_bytes() + self.certificate.read_bytes()


class CertificateAuthority:
    """The authority of a folder."""

    def __init__(self, folder: Path) -> None:
        """Raises AuthorityUnfit where there is none, or where its two files do not belong together."""
        self.folder = folder
        if not (folder / CERTIFICATE).is_file():
            raise AuthorityUnfit(
                f"No authority is in {folder}: there is no {CERTIFICATE}. `fedlog ca create` makes one."
            )
        self._certificate = _read_certificate(folder / CERTIFICATE)
        self._key = _read_key(folder / KEY)
        if self._key.public_key() != self._certificate.public_key():
            raise AuthorityUnfit(f"{folder / KEY} is not the key of {folder / CERTIFICATE}: take both from one backup.")

    @classmethod
    def create(
        cls, folder: Path, *, name: str = "fedlog", days: int = AUTHORITY_DAYS, now: datetime | None = None
    ) -> CertificateAuthority:
        """A new one. Raises AuthorityExists, AuthorityUnfit."""
        _require_name(name)
        _require_days(days)
        if folder.is_dir() and any(folder.iterdir()):
            raise AuthorityExists(
                f"{folder} is not empty, and whoever trusts what is in there would be locked out. {_SO}"
            )
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} authority")])
        builder = _begin(subject, key.public_key(), issuer=subject, until=_span(now, days=days))
        # Of no other authority: what it issues signs nothing.
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_allow(key_cert_sign=True, crl_sign=True), critical=True)
        # One that is there may be anything, also the folder in which people work: its rights are theirs.
        if not folder.absolute().parent.exists():
            open_private_folder(folder.absolute().parent)
        # Beside its place and then renamed: of two at once one finds the place taken, and no crash leaves a half.
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.absolute().parent) as temporary:
            new = Path(temporary) / "authority"
            new.mkdir(mode=0o700)
            write_durably(new / KEY, _write_key(key))
            write_durably(new / CERTIFICATE, builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
            try:
                new.replace(folder)
            except OSError as error:
                raise AuthorityExists(f"{folder} cannot be made: {error.strerror}. {_SO}") from error
        return cls(folder)

    @property
    def certificate(self) -> Path:
        """What others trust."""
        return self.folder / CERTIFICATE

    @property
    def ends_at(self) -> datetime:
        """No certificate of this authority is good for longer."""
        return self._certificate.not_valid_after_utc

    def list_leaves(self) -> list[Leaf]:
        """All that it has issued, by name."""
        found = sorted((self.folder / ISSUED).glob("*.pem"))
        return [Leaf(path, path.with_suffix(".key")) for path in found]

    def issue(self, request: LeafRequest, *, now: datetime | None = None) -> Leaf:
        """A new key and its certificate. Raises AuthorityExists, AuthorityUnfit."""
        _require_name(request.name)
        leaf = self._find_place(request.name)
        if leaf.certificate.exists():
            raise AuthorityExists(f"{leaf.certificate} is there already: `fedlog ca renew {request.name}` replaces it.")
        self._write(leaf, request, now=now)
        return leaf

    def renew(self, name: str, *, days: int | None = None, now: datetime | None = None) -> Leaf:
        """A new key and certificate for the same name, hosts and use, for `days` or as long as before.

        Servers of fedlog take the new pair without a restart. Raises AuthorityUnfit.
        """
        _require_name(name)
        leaf = self._find_place(name)
        if not leaf.certificate.exists():
            known = ", ".join(one.name for one in self.list_leaves()) or "none yet"
            raise AuthorityUnfit(f"No certificate of {name} was issued in {self.folder}; those that were: {known}.")
        before = leaf.read()
        lasted = before.not_valid_after_utc - before.not_valid_before_utc
        request = LeafRequest(
            name=name,
            hosts=read_hosts(before),
            usages=read_usages(before),
            days=lasted.days if days is None else days,
        )
        self._write(leaf, request, now=now)
        return leaf

    def _find_place(self, name: str) -> Leaf:
        return Leaf(self.folder / ISSUED / f"{name}.pem", self.folder / ISSUED / f"{name}.key")

    def _write(self, leaf: Leaf, request: LeafRequest, *, now: datetime | None) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(request, key.public_key(), now=now)
        open_private_folder(leaf.key.parent)
        # One after the other: a server that looks in between finds a pair that does not match, and looks again.
        write_durably(leaf.key, _write_key(key))
        write_durably(leaf.certificate, certificate.public_bytes(Encoding.PEM))

    def _sign(self, request: LeafRequest, key: ec.EllipticCurvePublicKey, *, now: datetime | None) -> x509.Certificate:
        _require_days(request.days)
        unknown = set(request.usages) - set(USAGES)
        if unknown or not request.usages:
            raise AuthorityUnfit(f"A certificate is for {' or '.join(USAGES)}, not for {sorted(unknown) or 'nothing'}.")
        if "server" in request.usages and not request.hosts:
            raise AuthorityUnfit("A server's certificate names where it is asked: --host NAME or --host ADDRESS.")
        begin, end = _span(now, days=request.days)
        if end > self.ends_at:
            raise AuthorityUnfit(
                f"The authority in {self.folder} ends on {self.ends_at:%Y-%m-%d}, before that certificate would. Take "
                "fewer --days while it lasts, or make a new authority in another folder and hand its certificate out."
            )
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, request.name)])
        builder = _begin(subject, key, issuer=self._certificate.subject, until=(begin, end))
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_allow(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([USAGES[use] for use in request.usages]), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        if request.hosts:
            names = x509.SubjectAlternativeName([_name_host(host) for host in request.hosts])
            builder = builder.add_extension(names, critical=False)
        return builder.sign(self._key, hashes.SHA256())


def read_hosts(certificate: x509.Certificate) -> tuple[str, ...]:
    """Where the one whom it names is asked: names and addresses."""
    with contextlib.suppress(x509.ExtensionNotFound):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return tuple(str(one.value) for one in found)
    return ()


def read_usages(certificate: x509.Certificate) -> tuple[str, ...]:
    """What it is for, by the names of `USAGES`."""
    with contextlib.suppress(x509.ExtensionNotFound):
        found = set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        return tuple(name for name, oid in USAGES.items() if oid in found)
    return ()


_SO = "Take another folder (--authority), or issue from the one that is there."


def _begin(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, *, issuer: x509.Name, until: tuple[datetime, datetime]
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder(issuer, subject, key, x509.random_serial_number())
    builder = builder.not_valid_before(until[0]).not_valid_after(until[1])
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _span(now: datetime | None, *, days: int) -> tuple[datetime, datetime]:
    # Of this machine, which the others believe to be the right time when they look at a certificate.
    at = now or datetime.now(UTC)
    return at - CLOCKS_DIFFER_BY, at + timedelta(days=days)


def _allow(*, digital_signature: bool = False, key_cert_sign: bool = False, crl_sign: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name_host(host: str) -> x509.GeneralName:
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    if not HOST.fullmatch(host):
        raise AuthorityUnfit(
            f"{host!r} is neither a host name nor an address. Leave port and scheme away, and write letters beyond "
            "ASCII as DNS does (xn--…)."
        )
    return x509.DNSName(host.lower())


def _require_name(name: str) -> None:
    # It becomes the name of a file, and the common name has 64 characters.
    if not NAME.fullmatch(name):
        raise AuthorityUnfit(f"{name!r} names no file: take 1 to 64 of letters, digits, dots, dashes, underlines.")


def _require_days(days: int) -> None:
    if not 1 <= days <= DAYS_MAX:
        raise AuthorityUnfit(f"--days {days}: must be from 1 to {DAYS_MAX}.")


def _read_certificate(path: Path) -> x509.Certificate:
    with _explain(path):
        return x509.load_pem_x509_certificate(path.read_bytes())


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    with _explain(path):
        key = load_pem_private_key(path.read_bytes(), password=None)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key
        raise ValueError("it is no key on a curve")


@contextlib.contextmanager
def _explain(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, TypeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AuthorityUnfit(f"{path} cannot be read: {reason}. Take it from a backup.") from error


def _write_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
