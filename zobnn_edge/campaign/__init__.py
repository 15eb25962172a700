"""Fault campaigns: what is to be tried, the runner, the outcomes, the journal."""
