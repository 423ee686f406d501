"""Speed and memory, as ratios against the programs people use today, in one run.

`./dev bench` builds one realistic image, runs every row of a table in turn, several rounds over, and prints medians
with their spread and the ratio to newhope's. Rows of one run may be compared; rows of two runs may not.
"""
