"""The daemon's configuration file, from Python."""
