"""Tables of transitions, as the docstrings of modules have them."""

cdef set read_transitions(str text, tuple names)
