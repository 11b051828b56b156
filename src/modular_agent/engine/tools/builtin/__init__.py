"""The tools that ship with the product; each reads and changes nothing."""
