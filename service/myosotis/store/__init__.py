"""SQL tables and blobs: implements the ports of the stages."""
