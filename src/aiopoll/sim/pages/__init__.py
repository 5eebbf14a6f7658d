"""Pages of a run: what to look at when the words of a report are not enough.

Lives here: `perfetto`, the run as trace events of Chrome, for ui.perfetto.dev; `page`, one HTML
file that needs no network; `timeline`, which makes of the events of a world what both draw.

May import: the simulator's tape, words and report.

Data comes from the events that a world records, and goes into files.
"""
