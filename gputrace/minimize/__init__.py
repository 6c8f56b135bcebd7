"""Smaller streams that still fail.

The search, which knows neither traces nor devices:

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

Traces as what is searched:

    model, needs  a trace as items; what each makes, uses, reads and writes
    effects       what a packet waits for and stores, by the declaration of its record
    history       what happened when in the recorded run: the order of the items
    edit          a candidate as a stream of events, with rings laid out anew
    failure       when two failures are the same: the packets at which waiting queues end
    contrast      wrong results: memory beside that of a run which does one thing after another
    checkpoint    processes that stand where many candidates begin alike, and fork for each
    trial         one run of a candidate in a child process; the oracle
    groups        passes that know what items are
    reduce        from a file to a reduction
    prefix        from a file to the first packet that fails
    cause, report, result, script   what a reduction says, and the files that it leaves

Only the journal and the last ones do I/O; time and seeds are arguments.
"""
