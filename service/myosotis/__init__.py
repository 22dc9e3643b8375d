"""Myosotis: a safety moderation service for deployed text-to-image models."""
