"""Tables of transitions, as the docstrings of modules have them."""


cdef set read_transitions(str text, tuple names):
    """The pairs of numbers of states under "Transitions:", one line for each source."""
    cdef set pairs = set()
    for line in text.split("Transitions:\n\n")[1].split("\n\n")[0].splitlines():
        source, targets = line.split("->")
        for target in targets.split(","):
            pairs.add((names.index(source.strip()), names.index(target.strip())))
    return pairs
