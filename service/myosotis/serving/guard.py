"""The few lines that an own diffusers server adds, to be told what to forget.

::

    guard = protect(pipe, model="models/petal", control_plane="127.0.0.1:7070",
                    name="my-server-1")
    guard.wait_until_ready()
    with guard.request() as served:
        images = pipe("a red apple").images
    print(served.generation, served.patch_digest)
"""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Self

from myosotis import names
from myosotis.errors import UnavailableError
from myosotis.serving.pinned_unet import PinnedUnet
from myosotis.serving.slot import Snapshot, WeightSlot
from myosotis.serving.subscriber import Subscriber

if TYPE_CHECKING:
    from diffusers import DiffusionPipeline
    from torch import Tensor

_LAST_EVENTS_SECONDS = 0.1


class Guard:
    """What keeps a pipeline at the generations that the control plane directs.

    A background thread holds the subscription; requests may run in any threads.
    Usable as a context manager that closes it.
    """

    def __init__(self, unet: PinnedUnet, subscriber: Subscriber) -> None:
        """Start the subscription; :func:`protect` makes both parts."""
        self._unet = unet
        self._loop = asyncio.new_event_loop()
        self._following = self._loop.create_task(subscriber.run())
        self._thread = threading.Thread(
            target=self._run, name="myosotis-subscriber", daemon=True
        )
        self._thread.start()

    def request(self) -> AbstractContextManager[Snapshot]:
        """Serve the pipeline calls inside by the generation that is active now.

        The block gets what serves it: ``generation``, ``patch_digest``,
        ``policy_revision``. Entering raises UnavailableError while no generation is
        active. The pin holds for the thread or task that entered.
        """
        return self._unet.pin()

    def wait_until_ready(self, timeout_seconds: float | None = None) -> None:
        """Return once a generation is active; wait without end by default.

        Raises:
            UnavailableError: none was in time.
        """
        if not self._unet.slot.ready.wait(timeout_seconds):
            raise UnavailableError(
                self._unet.slot.model, f"no generation after {timeout_seconds:g} s"
            )

    def close(self) -> None:
        """End the subscription; what is served stays served."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._following.cancel)
            self._thread.join()

    def _run(self) -> None:
        try:
            with suppress(asyncio.CancelledError):
                self._loop.run_until_complete(self._following)
            # gRPC delivers the last events of its calls a little later, and a loop
            # that is closed by then disturbs the process's other loops.
            self._loop.run_until_complete(asyncio.sleep(_LAST_EVENTS_SECONDS))
        finally:
            self._loop.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def protect(  # noqa: PLR0913 - all by name, most with a default
    pipeline: "DiffusionPipeline",
    *,
    model: str,
    control_plane: str,
    name: str,
    address: str = "",
    pristine: "Mapping[str, Tensor] | None" = None,
) -> Guard:
    """Put *pipeline* under the control plane's policies.

    From now on it draws inside ``guard.request()`` only, by exactly one generation for
    each request, and never by its unpatched weights. Move it, compile it and load
    adapters before.

    Args:
        pipeline: has a ``unet``, all of whose weights are of one type on one device.
        model: ``models/{model}`` that it is an instance of.
        control_plane: ``host:port``.
        name: of this server, a-z, 0-9 and hyphens, the same after a restart.
        address: where it draws pictures, ``host:port``; for people.
        pristine: state dict of the UNet in its published precision, where the
            pipeline holds it rounded to a smaller type.

    Raises:
        InvalidArgumentError: naming what is wrong.
    """
    names.parse("model", model, field="model")
    server = f"inferenceServers/{name}"
    names.parse("inference server", server, field="name")
    slot = WeightSlot(model, pipeline.unet, pristine=pristine)
    unet = PinnedUnet(slot)
    subscriber = Subscriber(
        slot, name=server, control_plane=control_plane, address=address
    )
    pipeline.unet = unet
    return Guard(unet, subscriber)
