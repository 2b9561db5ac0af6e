"""Tables of the robustness study: one module a table, and what they share.

Every table is long: a row says which model, what was measured and on what, and gives `value`, the
ends `low` and `high`, `interval` (what they are: a 95 % interval by a named method, or the range
over draws of a control), and `n`. What is not defined is null.
"""
