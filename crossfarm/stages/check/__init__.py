"""The stage `check`: records about outputs, classes, times and sizes."""
