"""Whether it forgot, and what that cost."""
