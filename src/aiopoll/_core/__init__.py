"""The compiled modules: the AIO ABI, its system calls and the completion ring."""
