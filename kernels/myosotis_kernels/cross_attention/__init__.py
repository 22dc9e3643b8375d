"""Fused cross-attention that also returns the attention mass of each key."""

from myosotis_kernels.cross_attention.arguments import Implementation, why_not
from myosotis_kernels.cross_attention.op import FastPathWarning, attention_with_mass

__all__ = ["FastPathWarning", "Implementation", "attention_with_mass", "why_not"]
