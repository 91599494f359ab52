"""Virtual boards: containers with another machine's userland and sshd, for tests and for people without hardware."""
