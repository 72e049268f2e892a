"""Loggers of training runs, one module a service; each service's package is optional and imported when asked for."""
