"""What a run found: headline numbers, tables, figures, and a page. Reads runs, knows no models."""
