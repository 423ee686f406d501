"""Widgets that paint lines and tables, and write to the terminal only the cells that changed.

None of them asks the engine anything or knows what a VM is: they are handed values of `viewmodels.text`.
"""
