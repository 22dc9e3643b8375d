"""What runs inside an inference server."""
