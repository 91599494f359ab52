"""The stage `bundle`: compiled code is linked with the runner."""
