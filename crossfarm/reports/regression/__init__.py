"""Regressions: verdicts about two runs or about a run and those before it; pure functions of kept runs."""
