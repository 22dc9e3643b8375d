"""Weights that travel: tensor files, manifests, digests."""
