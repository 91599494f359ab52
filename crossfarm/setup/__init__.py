"""`./inv setup` and `./inv doctor`: what crossfarm needs of this machine, and what it left there."""
