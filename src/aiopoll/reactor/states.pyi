"""Nothing here is for Python code; other compiled modules use it."""
