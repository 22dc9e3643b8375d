"""Benchmarks of the kernels. Correctness first, then time."""
