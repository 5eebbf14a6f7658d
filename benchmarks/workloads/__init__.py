"""One file per workload: WORKLOADS describes it, and run as a module it is the program."""
