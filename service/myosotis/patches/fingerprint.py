"""Fingerprints: which tensors a model holds, as one digest that is cheap to renew.

A hash tree of two levels. The leaf of a tensor is the SHA-256 of the canonical JSON of
``[name, dtype, shape, SHA-256 of the little-endian bytes]``, the root the SHA-256 of
the canonical JSON of all leaves, sorted by tensor name. A server that replaces twenty
of seven hundred tensors hashes those twenty.

Names of element types are those of safetensors: F32, F16, BF16.
"""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import torch
from torch import Tensor

from myosotis.digests import fingerprint
from myosotis.patches.manifest import ROOT_DTYPES

TORCH_DTYPES = MappingProxyType(
    {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
)


@dataclass(frozen=True)
class Fingerprint:
    """The leaves of a set of tensors that are held in one element type.

    Attributes:
        dtype: name of the element type.
        leaves: leaf of each tensor, in hexadecimal, by tensor name.
    """

    dtype: str
    leaves: Mapping[str, str]

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], dtype: str = "F32") -> "Fingerprint":
        """The fingerprint of *tensors* as they are when held in *dtype*.

        Tensors of another float type are cast (to nearest, ties to even); tensors
        that hold no floats are refused with ValueError, since nobody casts them.
        """
        return cls(dtype, {name: _leaf(name, t, dtype) for name, t in tensors.items()})

    def with_tensors(self, changed: Mapping[str, Tensor]) -> "Fingerprint":
        """The fingerprint after *changed* took the place of tensors of these names.

        Raises:
            ValueError: a name that is not among the leaves.
        """
        unknown = changed.keys() - self.leaves.keys()
        if unknown:
            raise ValueError(f"no such tensor: {min(unknown)}")
        leaves = {name: _leaf(name, t, self.dtype) for name, t in changed.items()}
        return Fingerprint(self.dtype, {**self.leaves, **leaves})

    @cached_property
    def root(self) -> str:
        """The digest of all tensors, 64 hexadecimal digits."""
        return fingerprint([self.leaves[name] for name in sorted(self.leaves)])


def base_digest(state: Mapping[str, Tensor]) -> str:
    """What identifies base weights: the root of a UNet's state dict, held in F32."""
    return Fingerprint.of(state, "F32").root


def fingerprints(state: Mapping[str, Tensor]) -> dict[str, Fingerprint]:
    """The fingerprint of *state* in each element type in which servers hold models.

    The first of them, F32, has the base digest as its root.
    """
    return {dtype: Fingerprint.of(state, dtype) for dtype in ROOT_DTYPES}


def _leaf(name: str, tensor: Tensor, dtype: str) -> str:
    if not tensor.is_floating_point():
        raise ValueError(f"{name} holds {tensor.dtype}, no floats")
    held = tensor.detach().to("cpu", TORCH_DTYPES[dtype]).contiguous().reshape(-1)
    words = held.view(torch.uint8).numpy()
    if sys.byteorder == "big":
        words = words.reshape(-1, held.element_size())[:, ::-1].copy()
    content = hashlib.sha256(words.data).hexdigest()
    return fingerprint([name, dtype, list(tensor.shape), content])
