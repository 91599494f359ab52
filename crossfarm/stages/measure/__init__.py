"""The stage `measure`: a bundle runs on a board."""
