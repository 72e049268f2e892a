"""From a model YAML to modules: the specification, its names, a dry run on the meta device, and the builder."""
