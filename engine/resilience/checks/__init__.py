"""The checks, one file each: a function from the scene to findings, and the id it signs them with.

A check never raises and never asks anything; it says OK for each subject it found sound, so that silence means that
it had nothing to look at. May import: what `resilience` may.
"""
