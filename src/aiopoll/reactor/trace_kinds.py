"""What the records of a trace are about; c/trace_buffer.h has their fields."""

import enum


class Kind(enum.IntEnum):
    """What a record is about, numbered as in C."""

    TEXT = 1
    CALLBACK = 2
    TASK = 3
    ITERATION = 4
    SUBMIT = 5
    GETEVENTS = 6
    EPOLL_WAIT = 7
    EPOLL_CTL = 8
    CANCEL = 9
    BUSY_POLL = 10
    REAP = 11
    ARMED = 12
    READY = 13
    TIMER = 14
    WAKE = 15
    FILE = 16
    COLLECTION = 17
    INSTANT = 18
    SPAN = 19
