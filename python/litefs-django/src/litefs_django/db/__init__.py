"""Where Django looks for engines."""
