"""Where compiled features run: DuckDB on this machine, or Spark where the data outgrow it; the statement is the same.

An engine is called with a statement and the relations it names, Arrow tables or Parquet files, and answers with an
Arrow table. Neither reaches the network beyond what it is told to, nor any file but the ones handed to it and a
temporary folder of its own, which is gone afterwards.
"""

from features.engines.on_duckdb import run_on_duckdb
from features.engines.on_spark import in_spark_sql, run_on_spark, spark_engine
from features.engines.relations import Engine, Relation

__all__ = ["Engine", "Relation", "in_spark_sql", "run_on_duckdb", "run_on_spark", "spark_engine"]
