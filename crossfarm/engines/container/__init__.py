"""Jobs in containers without network, as the caller's user."""
