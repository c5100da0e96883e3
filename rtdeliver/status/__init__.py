"""The status page: what a person on call looks at first."""
