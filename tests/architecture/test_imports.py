"""What processes and pure modules load."""

import importlib.metadata
import importlib.util
import subprocess
import sys

import pytest

PURE = [
    "myosotis.digests",
    "myosotis.errors",
    "myosotis.names",
    "myosotis.records",
    "myosotis.policy.concepts",
    "myosotis.policy.plans",
    "myosotis.policy.policies",
    "myosotis.policy.registry",
    "myosotis.unlearning.methods",
    "myosotis.unlearning.models",
    "myosotis.unlearning.runs",
    "myosotis.validation.gate",
    "myosotis.validation.gating",
    "myosotis.validation.measurements",
    "myosotis.validation.probes",
    "myosotis.patches.manifest",
    "myosotis.rollout.directives",
    "myosotis.rollout.generations",
    "myosotis.rollout.reconciler",
    "myosotis.moderation.decisions",
    "myosotis.moderation.phrases",
    "myosotis.serving.admission",
    "myosotis.execution.worker",
]


def loaded_by(module: str) -> set[str]:
    """Top-level packages that importing *module* loads, in a fresh interpreter."""
    code = f"import sys, {module}; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    return {name.split(".")[0] for name in output.split()}


@pytest.mark.parametrize("module", ["myosotis.cli.serve", "myosotis.cli.main"])
def test_the_control_plane_never_imports_torch(module: str) -> None:
    heavy = {"torch", "diffusers", "transformers", "numpy", "safetensors", "PIL"}
    assert loaded_by(module).isdisjoint(heavy)


def test_deciding_needs_neither_torch_nor_a_database() -> None:
    code = "import " + ", ".join(PURE) + "; import sys; print(*sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout
    assert {"torch", "diffusers", "sqlalchemy"}.isdisjoint(output.split())


def test_only_one_torch_and_no_torchvision_is_installed() -> None:
    assert importlib.util.find_spec("torchvision") is None
    assert importlib.metadata.version("torch").split("+")[0] == "2.13.0"
