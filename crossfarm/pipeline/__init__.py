"""`./inv pipeline`: options, plan, staleness, scheduler, records."""
