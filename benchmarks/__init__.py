"""Everyone side by side on one machine: `make bench`, `python -m benchmarks.run --help`.

A *workload* is a program and, where it is a server, a client in C that drives it; a *contender* is
what the program runs on: a loop, a library for files, or a reference in C.  One round measures
every contender of a workload once, in turn; what is quoted are ratios within a round.
"""
