"""Nothing here is for Python code; the scheduler uses it."""
