"""The stage `compile`: a prepared model goes through the target's backend."""
