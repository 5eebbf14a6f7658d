"""What can be seen of a running loop, also while it is stuck.

Lives here: how long callbacks wait and run (meter), and the numbers of a loop (metrics), for
exporters (exported, registered); what a loop did (tracer), which loops and when (tracing), and its
file (trace_file); the watchdog, a thread of C (watchdog, c/), what it and the reporter have seen
(observation), the stacks (stacks), where tasks were made (places), and the reports (stalls); what a
loop and its tasks do at a moment (records, dump, awaiting, look, dump_text), the signal that asks
for it (dump_signal, dump_request), and the socket that `aiopoll top` asks (service, sockets,
options).

May import: aio, reactor, and the loop's own files.

Data comes from the loop's core, from counters that it keeps, from /proc and Python's frames.  It
goes to the program that asks for it, to a file or socket, to the log, or to a handler.
"""
