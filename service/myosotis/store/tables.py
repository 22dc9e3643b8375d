"""The tables. Migrations make them; a test compares both.

Times are ISO 8601 text in UTC with microseconds, so that they sort, and read the same,
on every database. Values that are only ever read whole are one JSON document.
"""

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
)

# Revision of the newest migration: a database that is there needs no Alembic.
HEAD = "0001"

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_TIME = String(27)
_SHA256 = String(64)
_NAME = String(200)

policy_revisions = Table(
    "policy_revisions",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("policy_name", _NAME, nullable=False),
    Column("document", LargeBinary),  # the policy; null where it was deleted
    Column("source_file", String, nullable=False),
    Column("create_time", _TIME, nullable=False),
    Column("first_create_time", _TIME, nullable=False),
    Index(None, "policy_name", "number"),
)

erasure_plans = Table(
    "erasure_plans",
    metadata,
    Column("digest", _SHA256, primary_key=True),
    Column("document", LargeBinary, nullable=False),
)

unlearning_runs = Table(
    "unlearning_runs",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("model", _NAME, nullable=False),
    Column("plan_digest", ForeignKey("erasure_plans.digest"), nullable=False),
    Column("policy_revision", BigInteger, nullable=False),
    Column("create_time", _TIME, nullable=False),
    Column("not_before", _TIME, nullable=False),
    Column("state", String(16), nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("worker", _NAME, nullable=False),
    Column("lease_expire_time", _TIME),
    Column("phase", String, nullable=False),
    Column("done_steps", Integer, nullable=False),
    Column("total_steps", Integer, nullable=False),
    Column("patch", _NAME, nullable=False),
    Column("failure", String, nullable=False),
    Column("start_time", _TIME),
    Column("end_time", _TIME),
    Index(None, "create_time", "name"),
    Index(None, "state", "model"),
    Index(None, "model", "plan_digest"),
)

run_evidence = Table(
    "run_evidence",
    metadata,
    Column("run", ForeignKey("unlearning_runs.name"), primary_key=True),
    Column("measurements", LargeBinary, nullable=False),
    Column("gate_results", LargeBinary, nullable=False),
)

patches = Table(
    "patches",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("model", _NAME, nullable=False),
    Column("manifest", LargeBinary, nullable=False),
    Column("manifest_sha256", _SHA256, nullable=False),
    Column("manifest_size_bytes", BigInteger, nullable=False),
    Column("create_time", _TIME, nullable=False),
    Index(None, "model", "create_time"),
)

generations = Table(
    "generations",
    metadata,
    Column("model", _NAME, primary_key=True),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("plan_digest", _SHA256, nullable=False),
    Column("policy_revision", BigInteger, nullable=False),
    Column("manifest_sha256", _SHA256, nullable=False),
    Column("manifest_size_bytes", BigInteger, nullable=False),
    Column("create_time", _TIME, nullable=False),
)

inference_servers = Table(
    "inference_servers",
    metadata,
    Column("name", _NAME, primary_key=True),
    Column("model", _NAME, nullable=False),
    Column("base_digest", String, nullable=False),
    Column("heartbeat_time", _TIME, nullable=False),
    Column("active_generation", BigInteger, nullable=False),
    Column("staged_generation", BigInteger, nullable=False),
    Column("tensor_root", String, nullable=False),
    Column("address", String, nullable=False),
    Column("refused_generation", BigInteger),
    Column("refusal_reason", String),
    Column("refusal_detail", String),
)
