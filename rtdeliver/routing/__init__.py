"""The routing table: which frontends have viewers of a topic."""
