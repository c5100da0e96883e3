"""Faults upon a cluster of real processes, and whether every event is accounted for."""
