"""The pure-Python engine: the files mirror those of ``rust/cano-engine`` by name, and drive asyncio."""
