"""Latency over all hops: the records of tracked events, and what they say once they are joined."""
