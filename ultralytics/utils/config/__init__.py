"""Settings, YAML files and the namespace of arguments."""
