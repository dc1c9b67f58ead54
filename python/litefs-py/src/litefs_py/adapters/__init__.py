"""The means: HTTP, SQLite, files, processes, configuration. Knows use cases and the domain."""
