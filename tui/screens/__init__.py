"""One screen a file, with its style sheet beside it. `base` has the frame that all of them share.

A screen keeps where the operator is (cursor, filter, step) and shows the console's picture through the view-models.
Whatever takes longer than a frame is asked of the gateway.
"""
