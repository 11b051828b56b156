"""The commands, one a module; each imports what it needs when it is called, so that `--help` is quick."""
