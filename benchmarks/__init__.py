"""Measure `bupple_engine` against the floor of the same run: `python -m benchmarks [row …] [--quick]`.

Each contender (the floor, ours, the openai SDK) lives in a process of its own and reads from one
loopback provider, a process of its own too. Rounds alternate between the contenders and the table
shows medians. Absolute times drift from machine to machine: the ratios are what counts.
`--json before.json` writes a run down, and `--compare before.json after.json` puts two of them side
by side: a change is told from the noise of the rounds.
"""
