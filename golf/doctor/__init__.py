"""`golf doctor`: is this machine ready for this run? One file per family of checks; `command.py` is the command."""
