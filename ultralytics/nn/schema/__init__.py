"""The JSON schema of model YAMLs, written from the registry."""
