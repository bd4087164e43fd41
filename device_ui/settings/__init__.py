"""What the operator decides: read by both processes, written by the web process alone."""
