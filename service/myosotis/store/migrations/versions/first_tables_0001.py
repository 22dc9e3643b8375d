"""First tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_TIME = sa.String(27)
_SHA256 = sa.String(64)
_NAME = sa.String(200)


def upgrade() -> None:
    """Makes every table."""
    _create_policies()
    _create_runs()
    _create_patches()
    _create_servers()


def downgrade() -> None:
    """Removes every table."""
    for table in (
        "inference_servers",
        "generations",
        "patches",
        "run_evidence",
        "unlearning_runs",
        "erasure_plans",
        "policy_revisions",
    ):
        op.drop_table(table)


def _create_policies() -> None:
    op.create_table(
        "policy_revisions",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("policy_name", _NAME, nullable=False),
        sa.Column("document", sa.LargeBinary),
        sa.Column("source_file", sa.String, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("first_create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_policy_revisions")),
    )
    _index("policy_revisions", "policy_name", "number")


def _create_runs() -> None:
    op.create_table(
        "erasure_plans",
        sa.Column("digest", _SHA256, nullable=False),
        sa.Column("document", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_erasure_plans")),
    )
    op.create_table(
        "unlearning_runs",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("model", _NAME, nullable=False),
        sa.Column("plan_digest", _SHA256, nullable=False),
        sa.Column("policy_revision", sa.BigInteger, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.Column("not_before", _TIME, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempt", sa.Integer, nullable=False),
        sa.Column("worker", _NAME, nullable=False),
        sa.Column("lease_expire_time", _TIME),
        sa.Column("phase", sa.String, nullable=False),
        sa.Column("done_steps", sa.Integer, nullable=False),
        sa.Column("total_steps", sa.Integer, nullable=False),
        sa.Column("patch", _NAME, nullable=False),
        sa.Column("failure", sa.String, nullable=False),
        sa.Column("start_time", _TIME),
        sa.Column("end_time", _TIME),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_unlearning_runs")),
        sa.ForeignKeyConstraint(
            ["plan_digest"],
            ["erasure_plans.digest"],
            name=op.f("fk_unlearning_runs_plan_digest"),
        ),
    )
    _index("unlearning_runs", "create_time", "name")
    _index("unlearning_runs", "state", "model")
    _index("unlearning_runs", "model", "plan_digest")
    op.create_table(
        "run_evidence",
        sa.Column("run", _NAME, nullable=False),
        sa.Column("measurements", sa.LargeBinary, nullable=False),
        sa.Column("gate_results", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("run", name=op.f("pk_run_evidence")),
        sa.ForeignKeyConstraint(
            ["run"], ["unlearning_runs.name"], name=op.f("fk_run_evidence_run")
        ),
    )


def _create_patches() -> None:
    op.create_table(
        "patches",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("model", _NAME, nullable=False),
        sa.Column("manifest", sa.LargeBinary, nullable=False),
        sa.Column("manifest_sha256", _SHA256, nullable=False),
        sa.Column("manifest_size_bytes", sa.BigInteger, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_patches")),
    )
    _index("patches", "model", "create_time")
    op.create_table(
        "generations",
        sa.Column("model", _NAME, nullable=False),
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("plan_digest", _SHA256, nullable=False),
        sa.Column("policy_revision", sa.BigInteger, nullable=False),
        sa.Column("manifest_sha256", _SHA256, nullable=False),
        sa.Column("manifest_size_bytes", sa.BigInteger, nullable=False),
        sa.Column("create_time", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("model", "number", name=op.f("pk_generations")),
    )


def _create_servers() -> None:
    op.create_table(
        "inference_servers",
        sa.Column("name", _NAME, nullable=False),
        sa.Column("model", _NAME, nullable=False),
        sa.Column("base_digest", sa.String, nullable=False),
        sa.Column("heartbeat_time", _TIME, nullable=False),
        sa.Column("active_generation", sa.BigInteger, nullable=False),
        sa.Column("staged_generation", sa.BigInteger, nullable=False),
        sa.Column("tensor_root", sa.String, nullable=False),
        sa.Column("address", sa.String, nullable=False),
        sa.Column("refused_generation", sa.BigInteger),
        sa.Column("refusal_reason", sa.String),
        sa.Column("refusal_detail", sa.String),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_inference_servers")),
    )


def _index(table: str, *columns: str) -> None:
    op.create_index(op.f(f"ix_{table}_{'_'.join(columns)}"), table, list(columns))
