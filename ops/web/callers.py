"""Who asks: the subject and the role that a token names. The gate has checked both before an endpoint runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from starlette.requests import HTTPConnection

from schemas.errors import FedlogError

Role = Literal["viewer", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)


class Unauthenticated(FedlogError):
    """A token is needed: `fedlog token create` makes one."""

    code = "unauthenticated"


class NotAllowed(FedlogError):
    """The token's role may not do this."""

    code = "not_allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """`csrf` stands in the forms of this caller's pages, and nobody else can know it; empty for a bearer token.

    `until_s`: when the token ends, in seconds since 1970.
    """

    subject: str
    role: Role
    csrf: str = ""
    until_s: float = 0.0

    def may(self, role: Role) -> bool:
        """Whether the caller may do what this role may: each role may all that the one before it may."""
        # In the order of the list, so that a new role has its place among the others.
        return ROLES.index(self.role) >= ROLES.index(role)

    def require(self, role: Role) -> None:
        """Raises NotAllowed for a caller of a lesser role."""
        if not self.may(role):
            raise NotAllowed(f"This needs the role {role}, and the token of {self.subject} is of a {self.role}.")


def find_caller(request: HTTPConnection) -> Caller:
    """Who asks. Raises Unauthenticated where nobody was let in."""
    caller = getattr(request.state, "caller", None)
    # A route that the gate does not stand before must not be open to everybody.
    if not isinstance(caller, Caller):
        raise Unauthenticated
    return caller
