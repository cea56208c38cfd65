"""Signals, watchdog, attempts: how a run is stopped, watched and restarted."""
