"""The folder that `aiopoll run` puts on PYTHONPATH; nothing else may live in it."""
