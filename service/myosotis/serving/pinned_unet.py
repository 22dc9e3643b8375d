"""The UNet that a pipeline holds in place of its own: it has no weights itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Self

import torch
from torch import nn

from myosotis.errors import UnavailableError
from myosotis.serving.slot import Snapshot, WeightSlot


class PinnedUnet(nn.Module):
    """Forwards to the snapshot that the current request has pinned.

    Outside of a request every call raises: the base weights cannot be reached by
    mistake. The pin follows the context (:mod:`contextvars`): the thread or task that
    made it, and what ``asyncio.to_thread`` starts from there.
    """

    def __init__(self, slot: WeightSlot) -> None:
        super().__init__()
        self.slot = slot
        self._pinned: ContextVar[Snapshot] = ContextVar("pinned snapshot")

    @contextmanager
    def pin(self) -> Iterator[Snapshot]:
        """Serve everything inside by the snapshot that is active now.

        Raises:
            UnavailableError: no generation is active.
        """
        with self.slot.pin() as snapshot:
            token = self._pinned.set(snapshot)
            try:
                yield snapshot
            finally:
                self._pinned.reset(token)

    def forward(self, *args: object, **kwargs: object) -> object:
        """As the UNet's own.

        Raises:
            UnavailableError: outside of a request.
        """
        snapshot = self._pinned.get(None)
        if snapshot is None:
            raise UnavailableError(
                self.slot.model,
                "draw inside the guard's request(); without it no generation is pinned",
            )
        return snapshot.unet(*args, **kwargs)

    @property
    def config(self) -> Any:  # noqa: ANN401 - diffusers' own type, without annotations
        return self.slot.config

    @property
    def dtype(self) -> torch.dtype:
        return self.slot.dtype

    @property
    def device(self) -> torch.device:
        return self.slot.device

    def to(self, *args: Any, **kwargs: Any) -> Self:  # noqa: ANN401 - torch's own form
        """Nothing, when the weights are there already.

        Raises:
            UnavailableError: they would have to move; snapshots are immutable.
        """
        # torch's own reading of the arguments; it has no public name.
        device, dtype, _, _ = torch._C._nn._parse_to(*args, **kwargs)  # noqa: SLF001
        if not self._is_on(device) or dtype not in (None, self.dtype):
            self._refuse_to_move()
        return self

    def _apply(self, fn: object, recurse: bool = True) -> Self:  # noqa: ARG002, FBT001, FBT002 - torch's own form
        self._refuse_to_move()
        return self

    def _is_on(self, device: torch.device | None) -> bool:
        here = self.device
        return device is None or (
            device.type == here.type and device.index in (None, here.index)
        )

    def _refuse_to_move(self) -> None:
        raise UnavailableError(
            self.slot.model,
            "protected weights stay where they are: move the pipeline, then protect it",
        )

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the UNet has
        """The attribute of the pinned UNet; outside of a request there is none."""
        pinned = self.__dict__.get("_pinned")
        snapshot = pinned.get(None) if pinned is not None else None
        if snapshot is None:
            raise AttributeError(
                f"{name!r} of a protected UNet is reachable inside a request only"
            )
        return getattr(snapshot.unet, name)
