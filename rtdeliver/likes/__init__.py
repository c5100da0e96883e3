"""The live-video app: a backend as any user of the platform would write it, and its page."""
