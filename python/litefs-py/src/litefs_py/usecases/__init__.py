"""What is done with a cluster, without saying by what means. Knows the domain alone."""
