"""An archive in an object store that speaks the S3 protocol: the only importer of obstore.

obstore is one wheel without dependencies around `object_store` of Apache Arrow, a third of the size of botocore, with
types. It reads credentials and region as AWS's own clients do from the environment (AWS_ACCESS_KEY_ID and so on), from
a web identity, a container or an instance; profiles in files it does not read.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import urlsplit

import obstore
from obstore import exceptions
from obstore.store import S3Store

from ops.archive.stores import StoreAway, Stored, StoreError, StoreFull, StoreRefused

if TYPE_CHECKING:
    from obstore.store import ObjectStore

T = TypeVar("T")

# A part of a large file has so long: 5 MiB over a line of 50 kB a second.
REQUEST_S, CONNECT_S = 120.0, 10.0
# Beyond that the archivist tries again by itself, and says so.
RETRIES, RETRIED_S = 3, 20.0
# A file of many parts takes as much memory again as these at once.
PARTS_AT_ONCE = 4
_REFUSED = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError, exceptions.InvalidPathError)
# What servers say of a full disk or a spent quota: no word for it is in the protocol itself.
_FULL = ("InsufficientStorage", "507", "QuotaExceeded", "XMinioStorageFull", "no space left")


class Bucket:
    """A `Store` in a bucket; files are objects, and S3 shows none before it is whole."""

    def __init__(self, client: ObjectStore, *, address: str) -> None:
        self._client, self.address = client, address
        # A call that blocks in the library hears no Ctrl-C before its time is over; one that is awaited does.
        self._loop = asyncio.Runner()

    def list_sizes(self, beginning: str = "") -> Iterator[tuple[str, int]]:
        """All objects, a thousand at a request."""
        folder = beginning.rpartition("/")[0] or None
        with self._explaining():
            objects = self._run(lambda: obstore.list(self._client, folder).collect_async())
        yield from ((each["path"], each["size"]) for each in objects if each["path"].startswith(beginning))

    def read(self, name: str) -> Stored | None:
        """An object, marked by its entity tag."""
        with self._explaining():
            try:
                return self._run(lambda: self._get(name))
            # Of a bucket that is missing servers say the same, and then nothing can be written either.
            except (FileNotFoundError, exceptions.NotFoundError):
                return None

    def write(self, name: str, data: bytes) -> None:
        """A large object in parts, which are one when the last request has been answered."""
        with self._explaining():
            self._run(lambda: obstore.put_async(self._client, name, data, max_concurrency=PARTS_AT_ONCE))

    def replace(self, name: str, data: bytes, *, over: Stored | None) -> bool:
        """By If-None-Match or If-Match, where the server knows them; one that does not has the last writer win."""
        mode: obstore.PutMode = "create" if over is None else {"e_tag": over.mark}
        with self._explaining():
            try:
                self._run(lambda: obstore.put_async(self._client, name, data, mode=mode, use_multipart=False))
            except (exceptions.AlreadyExistsError, exceptions.PreconditionError):
                return False
        return True

    def delete(self, name: str) -> None:
        """Where there is none the protocol says yes too."""
        with self._explaining(), contextlib.suppress(FileNotFoundError, exceptions.NotFoundError):
            self._run(lambda: obstore.delete_async(self._client, name))

    def _run(self, ask: Callable[[], Awaitable[T]]) -> T:
        # The library looks for the running loop when it is asked.
        async def wait() -> T:
            return await ask()

        return self._loop.run(wait())

    async def _get(self, name: str) -> Stored:
        found = await obstore.get_async(self._client, name)
        return Stored(bytes(await found.bytes_async()), found.meta["e_tag"] or "")

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except StoreError:
            raise
        # Its own root of errors, and what it raises as Python's: FileNotFoundError, PermissionError, OSError.
        except (exceptions.BaseError, OSError, ValueError) as error:
            raise self._explain(error) from error

    def _explain(self, error: Exception) -> StoreError:
        said = " ".join(str(error).split())[:400]
        if isinstance(error, (*_REFUSED, PermissionError)) or "InvalidAccessKeyId" in said:
            return StoreRefused(f"{self.address}: {said}. Check credentials, and what they may do with this bucket.")
        # A server that was killed may have forgotten the parts that it had taken: the whole file is written again.
        is_missing = isinstance(error, (FileNotFoundError, exceptions.NotFoundError)) and "NoSuchUpload" not in said
        if is_missing:
            if "NoSuchBucket" in said:
                return StoreRefused(f"{self.address}: there is no such bucket. fedlog makes none: create it.")
            # Servers say so of a key that they do not know, too.
            return StoreRefused(f"{self.address}: {said}. Check bucket, endpoint and credentials.")
        if any(word.lower() in said.lower() for word in _FULL):
            return StoreFull(f"{self.address}: {said}. What is there stays; make room, and the rest is written.")
        return StoreAway(f"{self.address}: {said}.")


def open_bucket(address: str, *, endpoint: str | None = None, request_s: float = REQUEST_S) -> Bucket:
    """The bucket of `s3://BUCKET/PREFIX`; `endpoint` is the address of a server that is not AWS's. Raises StoreRefused.

    `request_s`: how long one request may take.
    """
    parts = urlsplit(address)
    named = {} if endpoint is None else {"endpoint": endpoint}
    client = S3Store(
        parts.netloc,
        prefix=parts.path.strip("/") or None,
        client_options={
            "timeout": timedelta(seconds=request_s),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            # Who names a server without TLS means it, as on loopback.
            "allow_http": (endpoint or "").startswith("http://"),
        },
        retry_config={"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRIED_S)},
        **named,  # type: ignore[arg-type]
    )
    return Bucket(client, address=address)
