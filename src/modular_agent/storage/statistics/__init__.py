"""Reads what the writer has summed up: whole days and hours from the sums, the edges of a range from the rows."""
