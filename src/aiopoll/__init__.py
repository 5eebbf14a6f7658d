"""Linux AIO poll for Python."""
