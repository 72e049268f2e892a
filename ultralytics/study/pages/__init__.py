"""HTML pages that hold everything they show: their parts, and the page of one run."""
