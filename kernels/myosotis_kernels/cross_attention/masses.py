"""Attention masses of a diffusion model's cross-attention layers, carried by value.

    with AttentionMasses(unet) as masses:
        mass = masses.forward(latents, timesteps, encoder_hidden_states=text)
    loss = sum((a * concept_mask).sum() for a in mass.values()).sqrt()
    loss.backward()

The modules are those of diffusers' `Attention` class, recognised by what they have
(`to_q`, `set_processor`, ...), not by their type.

**What "by value" means.** A mass reaches the caller as the result of one call, attached
to its graph; nothing outlives the call. A recomputation during the backward pass runs
the processors again, outside any open collection, and what they compute then goes to
the recomputed graph alone. Two writes of one layer in one collection are an error, so
nothing is ever counted twice.

**Gradient checkpointing.**

- `unet.enable_gradient_checkpointing(masses.checkpoint)` is right for every option
  here: the masses leave the checkpointed function as results of it. With
  `functools.partial(masses.checkpoint, use_reentrant=True)` it is reentrant.
- `unet.enable_gradient_checkpointing()` (diffusers' default, not reentrant) gives the
  same gradients; given row weights, it fails with PyTorch's `CheckpointError`.
- A reentrant checkpoint that is not ours hides the graph of a mass: refused with a
  RuntimeError during the forward pass, instead of a gradient of zero.

Legend: B batch, H heads, N image rows, L text keys, D head width, C channels.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType
from typing import Any, Self, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from myosotis_kernels.cross_attention.arguments import Implementation
from myosotis_kernels.cross_attention.processor import (
    CrossAttention,
    MassAttentionProcessor,
)

RowWeights: TypeAlias = Mapping[int, Tensor]


def is_cross_attention(name: str, module: nn.Module) -> bool:
    """Whether a module is diffusers' text cross-attention, by its name `attn2`."""
    return name.rpartition(".")[2] == "attn2" and hasattr(module, "set_processor")


class _TailSkipped(Exception):  # noqa: N818 - control flow, as StopIteration is
    """Every mass of the model is known; what follows is not needed."""


@dataclass(slots=True)
class _Collection:
    """The masses of one forward pass, while it runs."""

    row_weights: RowWeights | None
    wants_grad: bool
    wanted: int | None
    masses: dict[str, Tensor] = field(default_factory=dict)

    def put(self, name: str, mass: Tensor) -> None:
        if name in self.masses:
            raise RuntimeError(
                f"{name} ran twice in one collection: collect one forward pass, "
                "and run the backward pass after it"
            )
        if self.wants_grad and not torch.is_grad_enabled():
            raise RuntimeError(
                f"the mass of {name} has no gradient: inside a reentrant checkpoint "
                "use AttentionMasses.checkpoint"
            )
        self.masses[name] = mass

    def is_complete(self) -> bool:
        return len(self.masses) == self.wanted


class AttentionMasses:
    """Installs the processors on a model and gives out the masses of a forward pass.

    A context manager: entering installs one processor per layer, leaving puts the
    former ones back; a model that is the caller's own may keep them (`install`). Use
    one per model, from one thread. Backward passes may run after it is left, except
    through a checkpoint, which needs the processors again.

    Args:
        model: A diffusers UNet, or any module that contains such layers.
        power: 1 or 2, the exponent of the probability in the mass.
        implementation: As in `attention_with_mass`.
        is_selected: Says, by path and module, which modules take part.

    Raises:
        ValueError: No module is selected.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        power: int = 2,
        implementation: Implementation = "auto",
        is_selected: Callable[[str, nn.Module], bool] = is_cross_attention,
    ) -> None:
        self.power = power
        self.implementation = implementation
        self._model = model
        self._modules = {
            name: cast("CrossAttention", module)
            for name, module in model.named_modules()
            if is_selected(name, module)
        }
        if not self._modules:
            raise ValueError(f"{type(model).__name__} has no cross-attention layer")
        self._former: dict[str, Any] = {}
        self._open: list[_Collection] = []
        self._rows: dict[str, int] = {}

    @property
    def names(self) -> tuple[str, ...]:
        """Paths of the selected modules, in the model's own order."""
        return tuple(self._modules)

    @property
    def rows(self) -> Mapping[str, int]:
        """Image rows N of each layer, by path, in the latest forward pass."""
        return MappingProxyType(self._rows)

    def install(self) -> None:
        """Put the processors in; entering the context does the same.

        Raises:
            RuntimeError: They are in already.
        """
        if self._former:
            raise RuntimeError("the processors are installed already")
        for name, module in self._modules.items():
            self._former[name] = module.processor
            module.set_processor(MassAttentionProcessor(name, self))

    def remove(self) -> None:
        """Put the former processors back; leaving the context does the same."""
        for name, former in self._former.items():
            self._modules[name].set_processor(former)
        self._former.clear()

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def forward(
        self,
        *args: Any,  # noqa: ANN401
        row_weights: RowWeights | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> dict[str, Tensor]:
        """Run the model up to its last cross-attention and return the masses.

        What comes after the last cross-attention is dead code for a loss on masses and
        is not run.

        Args:
            args: Passed to the model.
            row_weights: Weights of image rows, [B, N] for each number of rows N that
                occurs in the model, for instance one pixel mask per resolution; a
                missing N means 1.
            kwargs: Passed to the model.

        Returns:
            Mass of each layer by module path, [B, H, L] fp32, in the order in which
            the layers ran.
        """
        with self._collection(row_weights, wanted=len(self._modules)) as masses:
            with suppress(_TailSkipped):
                self._model(*args, **kwargs)
            return masses

    @contextmanager
    def collect(
        self, *, row_weights: RowWeights | None = None
    ) -> Iterator[dict[str, Tensor]]:
        """Collect the masses of one whole forward pass of the model in this block.

        For callers that need the model's output as well. The dictionary fills as the
        layers run. Run the backward pass after the block.

        Args:
            row_weights: As in `forward`.

        Raises:
            RuntimeError: A layer runs twice in the block.
        """
        with self._collection(row_weights, wanted=None) as masses:
            yield masses

    def checkpoint(
        self,
        module: nn.Module,
        *args: Any,  # noqa: ANN401
        use_reentrant: bool = False,
    ) -> Any:  # noqa: ANN401
        """Run a part of the model and recompute it in the backward pass.

        Pass it to diffusers' `enable_gradient_checkpointing`. Masses leave the
        checkpointed function as its results, so both kinds give their gradients; in
        the reentrant kind also for parameters of a part whose inputs have none. A part
        that needs no gradient is simply run.

        Args:
            module: The part; its output is a tensor or a tuple of tensors.
            args: Its inputs.
            use_reentrant: As in `torch.utils.checkpoint.checkpoint`.
        """
        outer = self._open[-1] if self._open else None
        row_weights = None if outer is None else outer.row_weights
        names: list[str] = []
        is_single = True

        def run(_anchor: Tensor | None, *inputs: Any) -> tuple[Any, ...]:  # noqa: ANN401
            nonlocal is_single
            with self._collection(row_weights, wanted=None, is_nested=True) as inner:
                output = module(*inputs)
            names[:] = inner
            is_single = not isinstance(output, tuple)
            return (*((output,) if is_single else output), *inner.values())

        is_trained = any(p.requires_grad for p in module.parameters())
        if is_trained or any(isinstance(x, Tensor) and x.requires_grad for x in args):
            # A reentrant checkpoint gives no gradient unless some input wants one.
            anchor = torch.zeros((), requires_grad=is_trained)
            results = checkpoint(run, anchor, *args, use_reentrant=use_reentrant)
        else:
            results = run(None, *args)
        end = len(results) - len(names)
        for name, mass in zip(names, results[end:], strict=True):
            if outer is not None:
                outer.put(name, mass)
        if outer is not None and outer.is_complete():
            raise _TailSkipped
        return results[0] if is_single else results[:end]

    def row_weight(self, rows: int) -> Tensor | None:
        """Return the weights of layers with this many rows in the open collection."""
        if not self._open or self._open[-1].row_weights is None:
            return None
        return self._open[-1].row_weights.get(rows)

    def put(self, name: str, mass_BHL: Tensor, *, rows: int) -> None:
        """Take a layer's mass into the open collection; drop it if there is none."""
        if not self._open:
            return
        self._rows[name] = rows
        self._open[-1].put(name, mass_BHL)
        if self._open[-1].is_complete():
            raise _TailSkipped

    @contextmanager
    def _collection(
        self,
        row_weights: RowWeights | None,
        *,
        wanted: int | None,
        is_nested: bool = False,
    ) -> Iterator[dict[str, Tensor]]:
        if self._open and not is_nested:
            raise RuntimeError("a collection is open already")
        if not self._former:
            raise RuntimeError("the processors are not installed: use `with`")
        collection = _Collection(
            row_weights, wants_grad=torch.is_grad_enabled(), wanted=wanted
        )
        self._open.append(collection)
        try:
            yield collection.masses
        finally:
            self._open.pop()
