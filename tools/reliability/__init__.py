"""Makes docs/reliability.md from what was recorded."""
