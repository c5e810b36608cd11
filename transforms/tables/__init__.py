"""Arrow tables in Beam."""

from transforms.tables.arrow_coder import ArrowTableCoder

__all__ = ["ArrowTableCoder"]  # importing it registers it for every pipeline
