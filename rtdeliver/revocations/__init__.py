"""Where the dispatchers of a datacenter keep revocations."""
