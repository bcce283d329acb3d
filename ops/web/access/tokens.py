"""Tokens: who somebody is and what they may, signed with a key that lies in the folder. The only user of PyJWT.

JSON Web Tokens (RFC 7519) with EdDSA (RFC 8037). There is no list of them: a token holds until its time is over, or
until the key's file is deleted, which ends all of them at once.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ops.web.callers import ROLES, Caller, Role, Unauthenticated
from schemas.errors import EXIT_USAGE, FedlogError

FILE = "serve.tokens.key"
ALGORITHM, ISSUER = "EdDSA", "fedlog"
KEY_BYTES = 32
TOKEN_LETTERS_MAX = 2_048
SUBJECT_LETTERS_MAX = 64
DAY_S = 86_400


class TokenKeyUnfit(FedlogError):
    """The file of the key that signs tokens cannot be used."""

    exit_code = EXIT_USAGE
    code = "token_key_unusable"


class SubjectInvalid(FedlogError):
    """A subject is 1 to 64 printable letters without spaces at its ends."""

    exit_code = EXIT_USAGE
    code = "subject_invalid"


@dataclass(frozen=True, slots=True, repr=False)
class TokenKey:
    """32 secret bytes that sign and check tokens."""

    secret: bytes

    def issue(self, *, subject: str, role: Role, expires_s: float) -> str:
        """A token. Raises SubjectInvalid."""
        if not subject.isprintable() or subject != subject.strip() or not 0 < len(subject) <= SUBJECT_LETTERS_MAX:
            raise SubjectInvalid
        now_s = int(time.time())
        claims = {
            "iss": ISSUER,
            "sub": subject,
            "role": role,
            "iat": now_s,
            "exp": now_s + int(expires_s),
            # Two tokens of one second are two tokens.
            "jti": secrets.token_hex(8),
        }
        return jwt.encode(claims, self._signing, algorithm=ALGORITHM)

    def read(self, token: str) -> Caller:
        """Who holds it. Raises Unauthenticated for a token that is over, or that this key did not sign."""
        if len(token) > TOKEN_LETTERS_MAX:
            raise Unauthenticated("The token is no token of this server.")
        try:
            # One algorithm: what a token says of itself decides nothing.
            claims = jwt.decode(
                token,
                self._signing.public_key(),
                algorithms=[ALGORITHM],
                issuer=ISSUER,
                options={"require": ["exp", "sub", "role"]},
            )
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("The token is over; `fedlog token create` makes another.") from error
        except jwt.InvalidTokenError as error:
            raise Unauthenticated("The token is no token of this server.") from error
        if claims["role"] not in ROLES:
            raise Unauthenticated("The token is no token of this server.")
        csrf = self._derive_csrf(token)
        return Caller(subject=claims["sub"], role=claims["role"], csrf=csrf, until_s=float(claims["exp"]))

    @property
    def _signing(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret)

    def _derive_csrf(self, token: str) -> str:
        # Derived, so that nothing has to be remembered; whoever does not hold the key cannot guess it.
        return hmac.digest(hashlib.sha256(b"csrf" + self.secret).digest(), token.encode(), "sha256").hex()[:32]


def open_key(folder: Path) -> tuple[TokenKey, bool]:
    """The key of this folder, and whether this call has made it. Raises TokenKeyUnfit."""
    path = folder / FILE
    is_new = not path.exists()
    if is_new:
        # Under another name first: half a key would lock everybody out.
        fresh = path.with_name(f"{FILE}.{secrets.token_hex(4)}")
        fresh.touch(mode=0o600)
        fresh.write_text(secrets.token_hex(KEY_BYTES) + "\n")
        try:
            path.hardlink_to(fresh)
        # Two that start at once: the first key counts for both.
        except FileExistsError:
            is_new = False
        finally:
            fresh.unlink()
    return _read(path), is_new


def _read(path: Path) -> TokenKey:
    mode = path.stat().st_mode & 0o777
    # Whoever reads the key can be anybody.
    if mode & 0o077:
        raise TokenKeyUnfit(f"{path}: mode {mode:04o} lets others read it; run `chmod 600 {path}`")
    try:
        secret = bytes.fromhex(path.read_text().strip())
    except ValueError:
        secret = b""
    if len(secret) != KEY_BYTES:
        raise TokenKeyUnfit(f"{path}: is no key; delete it, and the next start makes another.")
    return TokenKey(secret)
