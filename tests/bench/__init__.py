"""Speed and memory, as ratios against the programs people use today, in one run.

`./dev bench` builds one realistic image, runs every row of a table in turn, several rounds over, and prints medians
with their spread and the ratio to newhope's, then what was promised beside what was measured. Rows of one run may be
compared; rows of two runs may not.

1. `image` builds the disk, and the same disk some time later; `peers` knows the other programs.
2. `full`, `incremental` and `restores` say which rows a table has and what newhope promised of them (`promises`).
3. `measure` runs them, all under the same conditions. Our own rows (`ours`) run the engine's own code, nothing else.
4. `block_sizes` and `index_scale` measure what the repository's sizes were chosen by (`--table blocks`, `index`).
"""
