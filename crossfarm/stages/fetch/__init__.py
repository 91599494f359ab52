"""The stage `fetch`: one pinned file, copied, downloaded or taken from a package."""
