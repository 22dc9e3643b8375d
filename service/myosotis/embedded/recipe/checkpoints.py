"""Training states on disk: tensors as safetensors, the rest as JSON."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from myosotis.embedded.recipe.average import Average
from myosotis.embedded.recipe.optimiser import MuonAdamW


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a stage needs to go on exactly where it stopped."""

    step: int
    tensors: Mapping[str, torch.Tensor]
    facts: Mapping[str, Any]

    @classmethod
    def of(
        cls,
        step: int,
        network: nn.Module,
        average: Average,
        optimiser: MuonAdamW,
        **facts: float,
    ) -> Self:
        """The state of an ordinary training loop after *step* steps."""
        weights = {f"weight.{n}": w.detach() for n, w in network.named_parameters()}
        return cls(step, {**weights, **average.state(), **optimiser.state()}, facts)

    def restore(
        self, network: nn.Module, average: Average, optimiser: MuonAdamW
    ) -> int:
        """Put the state back; return the step to go on with."""
        tensors = dict(self.tensors)
        with torch.no_grad():
            for name, weight in network.named_parameters():
                weight.copy_(tensors[f"weight.{name}"])
        average.restore(tensors)
        optimiser.restore(tensors)
        return self.step

    def save(self, folder: Path) -> None:
        """Write the state; a reader sees the old one or the new one, never half."""
        fresh = folder.with_name(f"{folder.name}.new")
        stale = folder.with_name(f"{folder.name}.old")
        for leftover in (fresh, stale):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh.mkdir(parents=True)
        tensors = {name: value.contiguous() for name, value in self.tensors.items()}
        save_file(tensors, fresh / "state.safetensors")
        facts = {"step": self.step, **self.facts}
        (fresh / "state.json").write_text(json.dumps(facts, indent=1))
        if folder.exists():
            folder.rename(stale)
        fresh.rename(folder)
        shutil.rmtree(stale, ignore_errors=True)

    @classmethod
    def load(cls, folder: Path) -> "Checkpoint | None":
        """The last state of a stage, or None where it never started."""
        if not folder.exists():
            folder = folder.with_name(f"{folder.name}.old")
        if not folder.exists():
            return None
        facts = json.loads((folder / "state.json").read_text())
        tensors = load_file(folder / "state.safetensors")
        return cls(facts.pop("step"), tensors, facts)
