"""What goes onto a board: a compiled model linked with the runner, its manifest and its interfaces."""
