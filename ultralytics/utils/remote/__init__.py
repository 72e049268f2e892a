"""Files that lie elsewhere: fetched by HTTP, and the catalogue of published weights."""
