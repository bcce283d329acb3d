"""An authority of our own: who is believed for its certificates, and who is not, by OpenSSL's strictest check."""

from __future__ import annotations

import ssl
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ops.doors.authority import AuthorityExists, AuthorityUnfit, CertificateAuthority, Leaf, LeafRequest
from ops.terminal.cli import app

GATEWAY = LeafRequest(name="gateway", hosts=("gateway.example.org", "127.0.0.1", "::1", "*.fleet.example.org"))


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    """A new one."""
    return CertificateAuthority.create(tmp_path / "ca")


def shake_hands(trusting: Path, server: Leaf, *, host: str = "gateway.example.org", client: Leaf | None = None) -> str:
    """What comes of a client that trusts `trusting` and asks `server` for `host`: "" or why not, in OpenSSL's words."""
    asking = ssl.create_default_context(cafile=trusting)
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    answering = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    answering.load_cert_chain(server.certificate, server.key)
    if client:
        asking.load_cert_chain(client.certificate, client.key)
        answering.verify_mode = ssl.CERT_REQUIRED
        answering.verify_flags |= ssl.VERIFY_X509_STRICT
        answering.load_verify_locations(trusting)
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = asking.wrap_bio(back, there, server_hostname=host), answering.wrap_bio(there, back, server_side=True)
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return str(error)
    return ""


@pytest.mark.parametrize("host", ["gateway.example.org", "127.0.0.1", "::1", "a.fleet.example.org"])
def test_a_server_is_believed_where_its_certificate_says(authority: CertificateAuthority, host: str) -> None:
    """Guarantee: by name, by address, and by the wildcard that it holds."""
    assert shake_hands(authority.certificate, authority.issue(GATEWAY), host=host) == ""


@pytest.mark.parametrize("host", ["other.example.org", "127.0.0.2", "a.b.fleet.example.org"])
def test_and_nowhere_else(authority: CertificateAuthority, host: str) -> None:
    """Guarantee: a certificate is good for its own hosts alone."""
    assert "mismatch" in shake_hands(authority.certificate, authority.issue(GATEWAY), host=host)


def test_another_authority_is_not_believed(authority: CertificateAuthority, tmp_path: Path) -> None:
    """Guarantee: what a stranger has signed, under the same names, opens nothing."""
    stranger = CertificateAuthority.create(tmp_path / "stranger")
    assert "verify failed" in shake_hands(authority.certificate, stranger.issue(GATEWAY))


def test_what_is_over_is_not_believed(authority: CertificateAuthority) -> None:
    """Guarantee: a certificate ends on its day; renewed it is good again, for as long and for the same as before."""
    long_ago = datetime.now(UTC) - timedelta(days=91)
    leaf = authority.issue(GATEWAY, now=long_ago)
    assert "certificate has expired" in shake_hands(authority.certificate, leaf)
    before = leaf.read()
    assert shake_hands(authority.certificate, authority.renew("gateway")) == ""
    after = leaf.read()
    assert before.public_key() != after.public_key()
    spans = [one.not_valid_after_utc - one.not_valid_before_utc for one in (before, after)]
    assert abs(spans[0] - spans[1]) < timedelta(minutes=1)


def test_a_certificate_is_for_what_it_was_issued_for(authority: CertificateAuthority) -> None:
    """Guarantee: a client's opens doors and serves nobody, a server's serves and opens none, one for both does both."""
    server = authority.issue(GATEWAY)
    client = authority.issue(LeafRequest(name="ada", usages=("client",)))
    both = authority.issue(replace(GATEWAY, name="broker", usages=("server", "client")))
    trusting = authority.certificate
    assert shake_hands(trusting, server, client=client) == ""
    assert shake_hands(trusting, both, client=both) == ""
    assert "purpose" in shake_hands(trusting, server, client=server)
    named = authority.issue(replace(GATEWAY, name="eve", usages=("client",)))
    assert "purpose" in shake_hands(trusting, named)


def test_what_it_issued_issues_nothing(authority: CertificateAuthority) -> None:
    """Guarantee: whoever has a server's key can be that server, and nobody else."""
    server = authority.issue(GATEWAY)
    usurper = CertificateAuthority(_dress_up(server, authority.folder.parent / "usurper"))
    forged = usurper.issue(replace(GATEWAY, name="forged", days=1))
    forged.certificate.write_bytes(forged.certificate.read_bytes() + server.certificate.read_bytes())
    assert "verify failed" in shake_hands(authority.certificate, forged)


def _dress_up(leaf: Leaf, folder: Path) -> Path:
    """The folder of an authority whose certificate is that one."""
    folder.mkdir()
    (folder / "authority.pem").write_bytes(leaf.certificate.read_bytes())
    (folder / "authority.key").write_bytes(leaf.key.read_bytes())
    return folder


def test_nobody_else_reads_a_key(authority: CertificateAuthority) -> None:
    """Guarantee: folders 0700 and files 0600, whatever the umask."""
    authority.issue(GATEWAY)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [authority.folder, *authority.folder.rglob("*")]}
    files = {"authority.pem", "authority.key", "gateway.pem", "gateway.key"}
    assert modes == {"ca": 0o700, "issued": 0o700, **dict.fromkeys(files, 0o600)}


def test_nothing_is_overwritten(authority: CertificateAuthority) -> None:
    """Guarantee: neither an authority nor a certificate that is there; what is trusted goes on to be."""
    leaf = authority.issue(GATEWAY)
    kept = {path: path.read_bytes() for path in authority.folder.rglob("*.*")}
    with pytest.raises(AuthorityExists, match="Take another folder"):
        CertificateAuthority.create(authority.folder)
    with pytest.raises(AuthorityExists, match="fedlog ca renew gateway"):
        authority.issue(GATEWAY)
    assert {path: path.read_bytes() for path in authority.folder.rglob("*.*")} == kept
    assert shake_hands(authority.certificate, leaf) == ""


BAD = {
    "a path": (replace(GATEWAY, name="../gateway"), "names no file"),
    "no host": (replace(GATEWAY, hosts=()), "--host NAME"),
    "a port": (replace(GATEWAY, hosts=("here:8710",)), "Leave port and scheme away"),
    "a url": (replace(GATEWAY, hosts=("https://here",)), "Leave port and scheme away"),
    "an umlaut": (replace(GATEWAY, hosts=("grün.example.org",)), "xn--"),
    "another use": (replace(GATEWAY, usages=("signing",)), "server or client"),
    "no days": (replace(GATEWAY, days=0), "from 1 to"),
    "too many days": (replace(GATEWAY, days=4000), "fewer --days"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused_in_words(authority: CertificateAuthority, case: str) -> None:
    """Each says what to write instead, and leaves no file behind."""
    request, told = BAD[case]
    with pytest.raises(AuthorityUnfit, match=told):
        authority.issue(request)
    assert authority.list_leaves() == []


def test_a_damaged_folder_says_which_file(authority: CertificateAuthority, tmp_path: Path) -> None:
    """No authority, half of one, or two halves of two: the file is named, and what to do."""
    with pytest.raises(AuthorityUnfit, match="fedlog ca create"):
        CertificateAuthority(tmp_path / "nothing")
    with pytest.raises(AuthorityUnfit, match="those that were: none yet"):
        authority.renew("gateway")
    other = CertificateAuthority.create(tmp_path / "other")
    (authority.folder / "authority.key").write_bytes((other.folder / "authority.key").read_bytes())
    with pytest.raises(AuthorityUnfit, match="is not the key of"):
        CertificateAuthority(authority.folder)
    for broken in (b"", b"nonsense"):
        (authority.folder / "authority.key").write_bytes(broken)
        with pytest.raises(AuthorityUnfit, match=r"authority\.key cannot be read"):
            CertificateAuthority(authority.folder)


def test_the_console_says_which_files_and_what_next(tmp_path: Path) -> None:
    """`fedlog ca` from nothing to a server that is believed; a second `create` is refused with exit code 2."""

    def run(*words: str) -> list[str]:
        ran = CliRunner().invoke(app, ["--folder", str(tmp_path / "here"), "ca", *words])
        assert ran.exit_code == (2 if "again" in words else 0), ran.stderr
        return ran.stdout.split()

    [trusted] = run("create")
    certificate, key = run("issue", "gateway", "--host", "gateway.example.org", "--days", "9")
    leaf = Leaf(Path(certificate), Path(key))
    assert shake_hands(Path(trusted), leaf) == ""
    assert run("renew", "gateway") == [certificate, key]
    assert shake_hands(Path(trusted), leaf) == ""
    assert '"days":8' in "".join(run("list", "--json")).replace(" ", "")
    assert run("create", "--name", "again") == []
