"""The application: its routes, and what stands before all of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import structlog
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from ops.gateway.access.limits import ALIVE, READY
from ops.gateway.behind.catalogue import Catalogue
from ops.gateway.downloads import Downloads
from ops.gateway.enrolments import PATH as ENROLMENTS
from ops.gateway.enrolments import Enrolments
from ops.gateway.exchange import Exchange
from ops.gateway.gates import Outside, put_gates
from ops.gateway.refusals import SOON, Overloaded, Refusal, Unknown, Unreadable, tell_refusal
from ops.gateway.transfers import PATH, Transfers
from schemas.http.device_protocol import RETRY, WAIT_S_MAX
from schemas.http.openapi import CAPABILITIES, describe_protocol

FOR_AN_HOUR = {RETRY: str(SOON), "Cache-Control": "public, max-age=3600"}

logger = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a gateway is made of."""

    catalogue: Catalogue
    exchange: Exchange
    enrolments: Enrolments
    transfers: Transfers
    downloads: Downloads
    ending: asyncio.Event = field(default_factory=asyncio.Event)

    def drain(self) -> None:
        """Take nobody in any more, and let those go who wait for an answer: another gateway has it too."""
        self.ending.set()
        self.exchange.board.release()

    async def tell_health(self, request: Request) -> Response:
        """Whether the process lives."""
        del request
        return JSONResponse({"status": "alive"})

    async def tell_readiness(self, request: Request) -> Response:
        """Whether devices should be sent here."""
        del request
        # A balancer that sends devices elsewhere meanwhile saves them a refusal each.
        breaker = self.exchange.appending.breaker
        if self.ending.is_set():
            raise Overloaded("The gateway ends.", code="ending")
        if breaker.is_open:
            raise Overloaded("Kafka does not answer.", code="log_away")
        told = {"status": "ready", "tasks": self.catalogue.tasks, "limits": self.exchange.limits.describe()}
        return JSONResponse(told, headers={RETRY: str(SOON)})

    async def tell_protocol(self, request: Request) -> Response:
        """The protocol, for programs that make clients."""
        del request
        return JSONResponse(describe_protocol(), headers=FOR_AN_HOUR)

    async def tell_capabilities(self, request: Request) -> Response:
        """What can be done here; a device passes over words that it does not know."""
        del request
        told = {"protocol": "v1", "capabilities": CAPABILITIES, "wait_s_max": WAIT_S_MAX}
        return JSONResponse(told, headers=FOR_AN_HOUR)


def make_app(gateway: Gateway, outside: Outside | None = None) -> Starlette:
    """Everything that the gateway answers."""
    exchange, enrolments = gateway.exchange, gateway.enrolments
    transfers, downloads = gateway.transfers, gateway.downloads
    name = f"{PATH}/{{name}}"
    app = Starlette(
        routes=[
            Route(ALIVE, gateway.tell_health, methods=["GET"]),
            Route(READY, gateway.tell_readiness, methods=["GET"]),
            Route("/v1/openapi.json", gateway.tell_protocol, methods=["GET"]),
            Route("/v1/capabilities", gateway.tell_capabilities, methods=["GET"]),
            Route("/v1/deployment", downloads.tell_deployment, methods=["GET"]),
            Route("/v1/tasks/{task}", downloads.tell_task, methods=["GET"]),
            Route("/v1/tasks/{task}/production", downloads.tell_production, methods=["GET"]),
            Route("/v1/models/{sha256}", downloads.fetch_model, methods=["GET"]),
            Route(ENROLMENTS, enrolments.ask, methods=["POST"]),
            Route(f"{ENROLMENTS}/{{digest}}", enrolments.hear, methods=["GET"]),
            Route("/v1/check-ins", exchange.check_in, methods=["POST"]),
            Route("/v1/check-ins/{digest}", exchange.hear_checkin, methods=["GET"]),
            Route("/v1/updates", exchange.update, methods=["POST"]),
            Route("/v1/updates/{lease}", exchange.hear_update, methods=["GET"]),
            Route(PATH, transfers.create, methods=["POST"]),
            Route(PATH, transfers.tell_options, methods=["OPTIONS"]),
            Route(name, transfers.tell, methods=["HEAD"]),
            Route(name, transfers.fetch, methods=["GET"]),
            Route(name, transfers.append, methods=["PATCH"]),
            Route(name, transfers.end, methods=["DELETE"]),
        ],
        exception_handlers={Refusal: _tell_refusal, HTTPException: _tell_http, Exception: _tell_unexpected},
    )
    # A redirection to the address that a stranger's Host names would be ours in name alone.
    app.router.redirect_slashes = False
    put_gates(app, gateway.catalogue, outside=outside or Outside())
    return app


def _tell_refusal(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refusal)
    # What has not been read by now never will be, and the connection is of no more use.
    return tell_refusal(error, closes=request.method in ("POST", "PATCH"))


def _tell_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal: Refusal = Unknown() if error.status_code == 404 else Unreadable(str(error.detail))
    refusal.status = error.status_code
    told = tell_refusal(refusal, closes=request.method in ("POST", "PATCH"))
    told.headers.update(error.headers or {})
    return told


def _tell_unexpected(request: Request, error: Exception) -> Response:
    # Its name alone: the text may hold what nobody outside should read.
    logger.error("request_failed", path=request.url.path, error=type(error).__name__, exc_info=error)
    failed = Refusal(f"An error that fedlog does not expect: {type(error).__name__}.", code="unexpected")
    failed.status = 500
    return tell_refusal(failed, closes=True)
