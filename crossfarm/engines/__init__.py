"""Engines: where jobs run. Each follows crossfarm.engines.protocol."""
