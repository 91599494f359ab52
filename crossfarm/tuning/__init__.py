"""Where the time of a compiled model goes, and the search for schedules that take less of it."""
