"""What can be seen of a running loop.

Lives here: how long callbacks wait and run (meter), and the numbers of a loop (metrics).

May import: aio, reactor, and the loop's own files.

Data comes from the loop's core, which calls the meter where a callback or a poll ends.  It goes to
the program that asks for it.
"""
