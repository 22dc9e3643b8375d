"""Calls from commands to a control plane."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from myosotis.transport.channels import open_blocking_channel
from myosotis.transport.errors import from_rpc_error

DEADLINE_SECONDS = 30


@contextmanager
def control_plane(address: str) -> Iterator[grpc.Channel]:
    """A channel to *address*; failures of calls inside become errors of ours."""
    with open_blocking_channel(address) as channel:
        try:
            yield channel
        except grpc.RpcError as error:
            raise from_rpc_error(error, service=address) from error


def every(
    call: Callable[..., Any], request: object, rows: Callable[[Any], Any]
) -> Iterator[Any]:
    """All rows of a paged list.

    Args:
        call: a ``List…`` method of a stub.
        request: its request; the page token is filled in.
        rows: picks the rows out of an answer.
    """
    message: Any = request
    while True:
        answer = call(message, timeout=DEADLINE_SECONDS)
        yield from rows(answer)
        if not answer.next_page_token:
            return
        message.page_token = answer.next_page_token
