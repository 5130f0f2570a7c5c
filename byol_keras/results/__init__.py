"""Results of benchmarks: records, tables, published figures, provenance."""

__all__ = ["provenance", "published", "records", "table"]
