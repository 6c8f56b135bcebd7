"""Smaller streams that still fail.

    graph         which item needs which; candidates are closed sets of numbered items (bit masks)
    dependencies  the graph, from what events make, use, read and write
    oracle        what a run can answer, what it cost, and how several runs make one answer
    journal       what was run, on disk, so that a killed reduction goes on where it stopped
    gate          `consider`: the one place where a smaller candidate replaces the best one
    passes        the seam: a pass has a name and proposes candidates to the gate, coarse to fine
    search        prefix and suffix bisection over closures, chunk deletion, sink pass
    flaky         the same for failures that come and go: Bayesian prefix bisection
    bisect        the first prefix that fails
    certificate   each remaining element taken away once more

Nothing here knows traces or devices. Only the journal does I/O; randomness is an argument.
"""
