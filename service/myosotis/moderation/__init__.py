"""What happens to prompts."""
