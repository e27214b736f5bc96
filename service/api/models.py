"""Networks and other files by their digests. They are stored as they are and never opened here."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Annotated, Any

import anyio.to_thread
from fastapi import APIRouter, Header, Request
from fastapi.responses import Response

from bounds.errors import LimitExceeded
from service.api.common import Cursor, Limit, Sha256, error, next_link, stored
from service.auth import Caller, Reader, Writer
from service.context import Context, Here
from service.problems import Problem
from service.schemas import ModelPage, ModelView
from service.views import answer, model_json
from workers.jobs.artifacts import WrongDigest
from workers.jobs.model import Model

router = APIRouter(tags=["models"])
MODELS, FILES = "models", "files"
_BLOCK = 1 << 20
_GZIP = b"\x1f\x8b"

_UPLOAD: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}
_STORED: dict[int | str, dict[str, Any]] = {
    200: {"model": ModelView, "description": "It was there already"},
    201: {"model": ModelView, "description": "Stored"},
    **error(400, 401, 403, 413, 415, 422, 429),
}
_CONTENT: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    304: {"description": "Not changed since"},
    **error(401, 403, 404),
}
FileName = Annotated[str, Header(alias="X-File-Name", max_length=200, pattern=r"^[ -~]*$")]


@router.put(
    "/v1/models/{sha256}", status_code=201, responses=_STORED, openapi_extra=_UPLOAD, response_model=None
)
async def put_model(
    request: Request, sha256: Sha256, here: Here, caller: Writer, name: FileName = ""
) -> Response:
    """Upload a network: the raw ONNX file (or its gzip) whose SHA-256 the path names."""
    return await _put(request, here, caller, sha256, name, MODELS)


@router.put(
    "/v1/files/{sha256}", status_code=201, responses=_STORED, openapi_extra=_UPLOAD, response_model=None
)
async def put_file(
    request: Request, sha256: Sha256, here: Here, caller: Writer, name: FileName = ""
) -> Response:
    """Upload a data set (.npz) or a certificate."""
    return await _put(request, here, caller, sha256, name, FILES)


async def _put(
    request: Request, here: Context, caller: Caller, sha256: str, name: str, role: str
) -> Response:
    if request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(415, "content-encoding", "send the file as it is, without Content-Encoding")
    announced = int(request.headers.get("content-length", 0))
    await anyio.to_thread.run_sync(check_bytes, here, caller.tenant, announced, sha256)
    size = await receive(request, here, sha256)

    def record() -> tuple[Model, bool]:
        check_bytes(here, caller.tenant, size, sha256)  # nobody has to announce a length, or keep to it
        facts = {"role": FILES} if role == FILES else {}
        new = here.store.put_model(Model(sha256, caller.tenant, size, name, 0.0, facts))
        here.store.audit(caller.tenant, f"{role}.put", {"sha256": sha256, "size": size, "key": caller.key})
        found = here.store.get_model(sha256, caller.tenant)
        if found is None:  # deleted by another call in between
            raise Problem(
                409, "deleted-meanwhile", "the file was deleted while it was uploaded; send it again"
            )
        return found, new

    model, new = await anyio.to_thread.run_sync(record)
    headers = {"ETag": f'"sha256:{sha256}"', "Location": f"/v1/{role}/{sha256}"}
    return answer(model_json(model, folder=role), 201 if new else 200, headers)


async def receive(request: Request, here: Context, sha256: str) -> int:
    """Writes the body as it comes; its size. The whole body is always read: whether somebody else has this
    file already must not show.

    Raises:
        Problem: 413 for files that are (or unpack to be) too large, 422 for another digest.
    """
    settings = here.settings
    writer = await anyio.to_thread.run_sync(
        lambda: here.artifacts.writer(expected=sha256, most=settings.max_upload)
    )
    unpacked = Unpacked(settings.max_unpacked)
    block = bytearray()

    def flush(data: bytes) -> None:
        unpacked.feed(data)
        writer.write(data)

    try:
        async for chunk in request.stream():
            block += chunk
            if len(block) >= _BLOCK:
                await anyio.to_thread.run_sync(flush, bytes(block))
                block.clear()
        await anyio.to_thread.run_sync(flush, bytes(block))
        if not writer.size:
            raise Problem(422, "empty-file", "the file is empty; send its bytes as the body")
        _, size = await anyio.to_thread.run_sync(writer.commit)
    except WrongDigest as error:
        raise Problem(422, "digest-mismatch", str(error)) from None
    except LimitExceeded as error:
        raise Problem(413, "too-large", str(error)) from None
    finally:
        # also when the caller hung up: nothing is left behind
        writer.discard()
    return size


class Unpacked:
    """Unpacks gzip alongside, keeping nothing: a small file must not become a huge one in a worker."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.size = 0
        self.started = False
        self.unpacker: Any = None

    def feed(self, data: bytes) -> None:
        """Counts what the next bytes unpack to.

        Raises:
            LimitExceeded: more than ``most`` bytes in all.
        """
        if not self.started and data:
            self.started = True
            if data.startswith(_GZIP):
                self.unpacker = zlib.decompressobj(wbits=31)
        if self.unpacker is None:
            return
        try:
            self._unpack(data)
        except zlib.error:
            self.unpacker = None  # damaged: the child will say where

    def _unpack(self, data: bytes) -> None:
        while data:
            self.size += len(self.unpacker.decompress(data, _BLOCK))
            if self.size > self.most:
                raise LimitExceeded(f"the file unpacks to more than {self.most} bytes; send a smaller one")
            data = self.unpacker.unconsumed_tail
            if self.unpacker.eof:  # another member may follow
                data = self.unpacker.unused_data
                self.unpacker = zlib.decompressobj(wbits=31)


def check_bytes(here: Context, tenant: str, more: int, sha256: str = "") -> None:
    """Raises 429 where a tenant's files would exceed its quota with a new one."""
    used = here.store.bytes_of(tenant)
    known = bool(sha256) and here.store.get_model(sha256, tenant) is not None
    if used + more > here.settings.quota_bytes and not known:
        what = f"your files take {used} bytes and may take {here.settings.quota_bytes}; delete some"
        raise Problem(429, "quota-exceeded", what, headers={"Retry-After": "60"})


@router.get("/v1/models", responses={200: {"model": ModelPage}, **error(401, 403, 422)}, response_model=None)
def list_models(
    request: Request, here: Here, caller: Reader, limit: Limit = 50, cursor: Cursor = ""
) -> Response:
    """Your networks, newest first."""
    return _page(request, here, caller, limit, cursor, MODELS)


@router.get("/v1/files", responses={200: {"model": ModelPage}, **error(401, 403, 422)}, response_model=None)
def list_files(
    request: Request, here: Here, caller: Reader, limit: Limit = 50, cursor: Cursor = ""
) -> Response:
    """Your other files, newest first."""
    return _page(request, here, caller, limit, cursor, FILES)


def role(model: Model) -> str:
    """Which list a file belongs to."""
    return FILES if model.facts.get("role") == FILES else MODELS


def _page(request: Request, here: Context, caller: Caller, limit: int, cursor: str, wanted: str) -> Response:
    found: list[Model] = []
    more: Callable[[], bool] = lambda: bool(cursor)  # noqa: E731 - a name for what the loop asks
    first = True
    while len(found) < limit and (first or more()):
        rows, cursor = here.store.models(caller.tenant, cursor=cursor, limit=limit - len(found))
        found += [m for m in rows if role(m) == wanted]
        first = False
    body = {"items": [model_json(m, folder=wanted) for m in found], "next_cursor": cursor or None}
    return answer(body, headers=next_link(request, cursor))


def mine(here: Context, caller: Caller, sha256: str) -> Model:
    """A file of the caller's tenant.

    Raises:
        Problem: 404, also for somebody else's.
    """
    found = here.store.get_model(sha256, caller.tenant)
    if found is None:
        raise Problem(404, "unknown-file", f"there is no file with digest {sha256}; upload it")
    return found


_ONE: dict[int | str, dict[str, Any]] = {200: {"model": ModelView}, **error(401, 403, 404, 422)}


@router.get("/v1/models/{sha256}", responses=_ONE, response_model=None)
def get_model(sha256: Sha256, here: Here, caller: Reader) -> Response:
    """What is known about a network."""
    return answer(model_json(mine(here, caller, sha256)))


@router.get("/v1/files/{sha256}", responses=_ONE, response_model=None)
def get_file(sha256: Sha256, here: Here, caller: Reader) -> Response:
    """What is known about a file."""
    return answer(model_json(mine(here, caller, sha256), folder=FILES))


@router.get("/v1/models/{sha256}/content", responses=_CONTENT, response_model=None)
def get_model_content(request: Request, sha256: Sha256, here: Here, caller: Reader) -> Response:
    """The network's file."""
    model = mine(here, caller, sha256)
    return stored(request, here, sha256, name=model.name or f"{sha256[:12]}.onnx", media_type="")


@router.get("/v1/files/{sha256}/content", responses=_CONTENT, response_model=None)
def get_file_content(request: Request, sha256: Sha256, here: Here, caller: Reader) -> Response:
    """The file itself."""
    model = mine(here, caller, sha256)
    return stored(request, here, sha256, name=model.name or sha256[:12], media_type="")


_GONE: dict[int | str, dict[str, Any]] = {204: {"description": "Removed"}, **error(401, 403, 404, 422)}


@router.delete("/v1/models/{sha256}", status_code=204, responses=_GONE, response_model=None)
def delete_model(sha256: Sha256, here: Here, caller: Writer) -> Response:
    """Remove a network from your list. Its bytes go when no job needs them."""
    return _delete(here, caller, sha256, MODELS)


@router.delete("/v1/files/{sha256}", status_code=204, responses=_GONE, response_model=None)
def delete_file(sha256: Sha256, here: Here, caller: Writer) -> Response:
    """Remove a file from your list. Its bytes go when no job needs them."""
    return _delete(here, caller, sha256, FILES)


def _delete(here: Context, caller: Caller, sha256: str, folder: str) -> Response:
    mine(here, caller, sha256)
    here.store.delete_model(sha256, caller.tenant)
    here.store.audit(caller.tenant, f"{folder}.delete", {"sha256": sha256, "key": caller.key})
    return Response(status_code=204)
