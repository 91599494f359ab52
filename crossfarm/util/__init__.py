"""Small things that several packages need: text, files, folders, processes, the container engine."""
