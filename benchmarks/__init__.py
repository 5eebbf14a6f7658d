"""All implementations side by side on one machine: `make bench`, `python -m benchmarks.run --help`.

A *workload* is a program and, where it is a server, a client in C that drives it.  An
*implementation* is the base of the program: a loop, a library for files, or a reference in C.  A
*round* starts the processes of each implementation, and measures one *sample* of each in rotation,
several times.  The results quote ratios between samples measured beside each other.
"""
