"""Tables of the robustness study: one module a table, and what they share."""
