"""gRPC servers: one way to build them, and to turn errors into statuses."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_status import rpc_status

from myosotis.errors import MyosotisError, UnavailableError
from myosotis.transport.errors import internal_status, to_status

_log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 4 * 1024 * 1024

# Pings keep idle streams through load balancers; the server tolerates one every 15 s.
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 15_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A port that another process listens on is an error, not shared.
    ("grpc.so_reuseport", 0),
)


class GrpcServer:
    """A server with health and error mapping, bound to its port when built."""

    def __init__(self, listen: str) -> None:
        """Bind *listen*, ``host:port``; port 0 takes a free one.

        Raises:
            UnavailableError: the address cannot be bound.
        """
        self._server = grpc.aio.server(
            interceptors=[_ErrorInterceptor()], options=_OPTIONS
        )
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        try:
            port = self._server.add_insecure_port(listen)
        except RuntimeError as error:
            raise UnavailableError(listen, "cannot listen there") from error
        if port == 0:
            raise UnavailableError(listen, "cannot listen there")
        self.address = f"{listen.rsplit(':', 1)[0]}:{port}"

    def add(self, register: Callable[[Any, Any], None], servicer: object) -> None:
        """Offer *servicer*, by the generated ``add_…Servicer_to_server``."""
        register(servicer, self._server)

    async def start(self) -> None:
        await self._server.start()

    async def set_serving(self, *, serving: bool, service: str = "") -> None:
        """What health checks of *service* are told; empty is the process itself."""
        status = health_pb2.HealthCheckResponse.ServingStatus
        await self._health.set(
            service, status.SERVING if serving else status.NOT_SERVING
        )

    async def stop(self, grace_seconds: float) -> None:
        """Refuse new calls, and give those that run *grace_seconds* to end."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace_seconds)


class _ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Turns what servicers raise into a status."""

    async def intercept_service(
        self,
        continuation: Callable[[Any], Awaitable[grpc.RpcMethodHandler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith("/grpc."):
            return handler
        if handler.response_streaming:
            wrapped = _streaming(handler.stream_stream or handler.unary_stream, method)
            kind = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            wrapped = _single(handler.stream_unary or handler.unary_unary, method)
            kind = (
                grpc.stream_unary_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_unary_rpc_method_handler
            )
        return kind(
            wrapped,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )


def _single(behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
    async def call(request: object, context: grpc.aio.ServicerContext) -> object:
        try:
            return await behaviour(request, context)
        except Exception as error:  # noqa: BLE001 - the edge: nothing gets past it
            return await _abort(context, error, method)

    return call


def _streaming(behaviour: Callable[..., Any], method: str) -> Callable[..., Any]:
    async def call(
        request: object, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[object]:
        try:
            async for response in behaviour(request, context):
                yield response
        except Exception as error:  # noqa: BLE001 - the edge: nothing gets past it
            await _abort(context, error, method)

    return call


async def _abort(
    context: grpc.aio.ServicerContext, error: Exception, method: str
) -> object:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, MyosotisError):
        status = to_status(error)
    else:
        correlation_id = uuid.uuid4().hex
        _log.error("defect", method=method, id=correlation_id, exc_info=error)
        status = internal_status(correlation_id)
    rich = rpc_status.to_status(status)
    await context.abort(rich.code, rich.details, rich.trailing_metadata)
    raise error
