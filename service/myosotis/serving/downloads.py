"""Blobs by digest from the control plane, resumed where they broke off."""

import asyncio

import grpc
import grpc.aio

from myosotis.digests import Digest
from myosotis.errors import PatchRefusedError, UnavailableError
from myosotis.serving import wire
from myosotis.transport.errors import from_rpc_error
from myosotis.v1 import weight_delivery_service_pb2 as pb
from myosotis.v1 import weight_delivery_service_pb2_grpc as pb_grpc

_FINAL = (
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.DATA_LOSS,
    grpc.StatusCode.INVALID_ARGUMENT,
)


class Downloads:
    """Fetches one blob at a time; what arrived of the last one outlives the stream."""

    def __init__(self, *, stall_seconds: float = 30.0) -> None:
        """*stall_seconds*: longest wait for the next chunk."""
        self._stall_seconds = stall_seconds
        self._wanted: Digest | None = None
        self._content = bytearray()

    async def fetch(
        self, digest: Digest, stub: pb_grpc.WeightDeliveryServiceStub
    ) -> bytes:
        """The verified content of *digest*.

        Raises:
            PatchRefusedError: BAD_BLOB, when it is missing, corrupt, or of another size
                than *digest* says. The next fetch starts from nothing.
            UnavailableError: when the stream broke. The next fetch of this digest goes
                on from where it broke.
        """
        if self._wanted != digest:
            self._wanted, self._content = digest, bytearray()
        try:
            await self._receive(digest, stub)
        except PatchRefusedError:
            self._forget()
            raise
        content = bytes(self._content)
        self._forget()
        actual = await asyncio.to_thread(Digest.of, content)
        if actual != digest:
            raise PatchRefusedError("BAD_BLOB", f"{digest} arrived as {actual}")
        return content

    def _forget(self) -> None:
        self._wanted, self._content = None, bytearray()

    async def _receive(
        self, digest: Digest, stub: pb_grpc.WeightDeliveryServiceStub
    ) -> None:
        call = stub.ReadBlob(
            pb.ReadBlobRequest(
                digest=wire.digest(digest), read_offset=len(self._content)
            )
        )
        try:
            while len(self._content) <= digest.size_bytes:
                async with asyncio.timeout(self._stall_seconds):
                    message = await call.read()
                if message is grpc.aio.EOF:
                    return
                self._content += message.data
        except TimeoutError as error:
            raise UnavailableError("control plane", f"{digest} stalls") from error
        except grpc.aio.AioRpcError as error:
            if error.code() in _FINAL:
                raise PatchRefusedError(
                    "BAD_BLOB", f"{digest} cannot be read: {error.details()}"
                ) from error
            problem = str(from_rpc_error(error, service="control plane"))
            raise UnavailableError("control plane", problem) from error
        finally:
            # An abandoned stream would live until the channel closes.
            call.cancel()
        raise PatchRefusedError(
            "BAD_BLOB", f"{digest} is longer than {digest.size_bytes} bytes"
        )
