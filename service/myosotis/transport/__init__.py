"""gRPC servers, channels and errors; knows no stage."""
