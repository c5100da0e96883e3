"""The process: how a role starts, listens, runs in workers and ends."""
