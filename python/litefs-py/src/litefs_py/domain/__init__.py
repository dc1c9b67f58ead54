"""What things are called here, and what they mean. Knows nothing but Python itself."""
