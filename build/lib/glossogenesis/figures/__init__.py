"""One style and one module a figure family: a figure function takes a polars frame, returns a Figure."""
