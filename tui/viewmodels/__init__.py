"""Pure functions from what is known to what is shown: no Textual, no engine calls, no clock.

`text` has the vocabulary (spans, lines, tables) and `figures` the way numbers and times are written; `picture` holds
all that is known at one instant. Every other file is named after what it shows. The time is always the picture's.
"""
