"""What is known of a provider and of a configuration: a probe of the one, an overview of the other."""
