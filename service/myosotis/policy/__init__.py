"""What models must not depict."""
