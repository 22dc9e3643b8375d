"""gRPC channels: one way to open them."""

import json

import grpc
import grpc.aio

from myosotis.transport.servers import MAX_MESSAGE_BYTES

# Retries only where the connection failed before an answer (gRFC A6); streams come
# back by themselves.
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)
_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A process that restarts on the same address is found again within a second.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


def open_channel(address: str, *, retry: bool = False) -> grpc.aio.Channel:
    """A channel to *address*, ``host:port``; it connects when first used.

    Args:
        address: where to.
        retry: try again for about a second where nothing answered. Only for channels
            whose calls may be repeated.
    """
    extra = (
        ("grpc.service_config", _SERVICE_CONFIG)
        if retry
        else ("grpc.enable_retries", 0)
    )
    return grpc.aio.insecure_channel(address, options=[*_OPTIONS, extra])


def open_blocking_channel(address: str) -> grpc.Channel:
    """As :func:`open_channel`, for code without an event loop."""
    return grpc.insecure_channel(address, options=_OPTIONS)
