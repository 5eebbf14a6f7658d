"""crypto: the AF_ALG socket family."""
