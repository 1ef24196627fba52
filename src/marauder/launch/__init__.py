"""Processes of a run on this machine: starting, restarting, stopping, and notices that the machine goes away."""
